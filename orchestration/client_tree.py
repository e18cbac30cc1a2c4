"""`tree`: regions, zones, pods and resources as they are supervised, with what is wrong in view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from orchestration import problems
from orchestration.client import Client
from orchestration.client_output import Console
from orchestration.client_views import epoch
from orchestration.records import PodRecord, RegionRecord, ResourceRecord, ZoneRecord

__all__ = ["Branch", "grow", "show_tree"]

GOOD, BAD = "32", "31"  # ANSI colours; the words say the same
FINE = frozenset({"up", "ready", "executing"})
LISTED = 20  # resources of a pod that are shown one by one unless asked for all


class Branch(Struct, kw_only=True, omit_defaults=True):
    """One line of the tree and what hangs below it."""

    name: str
    kind: str
    state: str = ""
    text: str = ""
    children: list[Branch] = []

    @property
    def is_failing(self) -> bool:
        """Say whether this or anything below is not as it should be."""
        return (self.state != "" and self.state not in FINE) or any(
            child.is_failing for child in self.children
        )


def show_tree(
    client: Client, console: Console, prefix: str, *, depth: int | None, only_failing: bool
) -> None:
    """Show the tree below `prefix`.

    Raises:
        ProblemError: nothing has that prefix.
    """
    everything = (depth or 0) > 3
    root = grow(client, prefix, resources=depth is None or everything)
    if prefix and not root.children:
        raise problems.NO_SUCH_OBJECT.error(f"nothing is below {prefix!r}")
    if only_failing:
        _prune(root)
    if console.is_machine:
        console.document("Tree", root=root)
        return
    console.write(root.name)
    for line in _lines(root.children, "", depth or 4, console, everything=everything):
        console.write(line)


def grow(client: Client, prefix: str, *, resources: bool) -> Branch:
    """Build the tree from the lists the server gives."""
    branches: dict[str, Branch] = {}
    root = Branch(
        name=client.infrastructure().infrastructure.name, kind="infrastructure", children=[]
    )
    wanted = prefix.rstrip("/")
    for record in _partitions(client, wanted):
        _hang(root, branches, record.path, _branch_of(record))
    if resources:
        for resource in client.resources(wanted):
            if _is_below(resource.path, wanted):
                _hang(root, branches, resource.path, _resource(resource))
    return root


def _partitions(client: Client, wanted: str) -> Iterator[RegionRecord | ZoneRecord | PodRecord]:
    """Give those on the way to `wanted` and those below it, parents first."""
    lists: tuple[Iterable[RegionRecord | ZoneRecord | PodRecord], ...] = (
        client.regions(),
        client.zones(),
        client.pods(),
    )
    for records in lists:
        for record in records:
            if _is_below(record.path, wanted) or wanted.startswith(record.path + "/"):
                yield record


def _is_below(path: str, wanted: str) -> bool:
    return not wanted or path == wanted or path.startswith(wanted + "/")


def _hang(root: Branch, branches: dict[str, Branch], path: str, branch: Branch) -> None:
    parent = branches.get(path.rpartition("/")[0], root)
    parent.children.append(branch)
    branches[path] = branch


def _branch_of(record: RegionRecord | ZoneRecord | PodRecord) -> Branch:
    name = record.path.rpartition("/")[2]
    ready = f"{record.ready}/{record.resources} ready"
    match record:
        case RegionRecord():
            return Branch(name=name, kind="region", text=ready, children=[])
        case ZoneRecord():
            text = f"{record.strategy}  {record.pods_up}/{record.pods} pods up  {ready}"
            return Branch(name=name, kind="zone", state=record.state, text=text, children=[])
        case PodRecord():
            text = f"{record.strategy}  pid {record.pid or '-'}  epoch {epoch(record)}  {ready}"
            text += f"  {record.crashes} crashes  {record.restarts} restarts"
            return Branch(name=name, kind="pod", state=record.state, text=text, children=[])


def _resource(record: ResourceRecord) -> Branch:
    text = f"{record.kind}  mailbox {record.mailbox}  pending {record.pending}"
    if record.crashes:
        text += f"  {record.crashes} crashes"
    if record.detail:
        text += f"  ({record.detail})"
    name = record.path.rpartition("/")[2]
    return Branch(name=name, kind="resource", state=record.state, text=text)


def _prune(branch: Branch) -> None:
    branch.children = [child for child in branch.children if child.is_failing]
    for child in branch.children:
        _prune(child)


def _lines(
    branches: list[Branch], indent: str, depth: int, console: Console, *, everything: bool
) -> Iterator[str]:
    if depth == 0:
        return
    shown, rest = branches, Counter[str]()
    if not everything and len(branches) > LISTED and branches[0].kind == "resource":
        shown = sorted(branches, key=lambda branch: not branch.is_failing)[:LISTED]
        rest = Counter(branch.state for branch in branches) - Counter(
            branch.state for branch in shown
        )
    for number, branch in enumerate(shown):
        last = number == len(shown) - 1 and not rest
        state = console.paint(branch.state, GOOD if branch.state in FINE else BAD)
        parts = [branch.name, state, branch.text]
        yield f"{indent}{'└─' if last else '├─'} {'  '.join(part for part in parts if part)}"
        below = indent + ("   " if last else "│  ")
        yield from _lines(branch.children, below, depth - 1, console, everything=everything)
    if rest:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(rest.items()))
        yield f"{indent}└─ … and {counts} (all of them: --depth 4)"
