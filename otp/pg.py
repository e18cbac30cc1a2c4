"""pg: process groups, which exist as long as somebody is in them.

A scope is one process with one table. Joining and leaving go through the process, reading goes straight to the
table. Joining twice counts twice; the end of a process takes it out of all its groups.
Of OTP's pg not ported: groups across nodes, so all members are local.

Source: pg(3) of OTP 25, and its answers and messages as seen on a running one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from otp import erlang
from otp.callback_results import CallResult, NoReply, Reply, Result
from otp.envelope import INFO
from otp.errors import OtpError
from otp.gen_server import GenServer, call
from otp.partitioning import exact
from otp.process import Down, Pid, Ref
from otp.runtime import Runtime
from otp.waiting import From, self_process

__all__ = [
    "DEFAULT_SCOPE",
    "Change",
    "GroupChange",
    "GroupMonitor",
    "NotJoinedError",
    "Scope",
    "demonitor",
    "get_members",
    "join",
    "leave",
    "monitor",
    "monitor_scope",
    "start",
    "start_link",
    "which_groups",
]

DEFAULT_SCOPE = "pg"


class NotJoinedError(OtpError):
    """None of the processes was in the group. Told to the caller of `leave`."""


class Change(Enum):
    """What happened to a group."""

    JOIN = "join"
    LEAVE = "leave"


class GroupMonitor:
    """A running `monitor` or `monitor_scope`."""

    __slots__ = ("group", "owner", "scope")

    def __init__(self, scope: str, owner: Pid, group: Hashable) -> None:
        self.scope = scope
        self.owner = owner
        self.group = group  # exact, so never None; None is a whole scope


@dataclass(frozen=True, slots=True)
class GroupChange:
    """Message to who monitors: `pids` have joined or left `group`, each as often as it is listed."""

    monitor: GroupMonitor
    change: Change
    group: Hashable
    pids: tuple[Pid, ...]


class _Groups:
    """The table: the members of each group, and the groups of each member."""

    __slots__ = ("_groups", "_of")

    def __init__(self) -> None:
        self._groups: dict[Hashable, tuple[Hashable, Counter[Pid]]] = {}  # by exact name
        self._of: dict[Pid, dict[Hashable, None]] = {}

    def members(self, group: Hashable) -> list[Pid]:
        """List the members, each as often as it joined."""
        _, members = self._groups.get(exact(group), (group, Counter[Pid]()))
        return list(members.elements())

    def names(self) -> list[Hashable]:
        """List the groups."""
        return [name for name, _ in self._groups.values()]

    def knows(self, pid: Pid) -> bool:
        """Tell whether `pid` is in any group."""
        return pid in self._of

    def join(self, group: Hashable, pid: Pid) -> None:
        """Put `pid` into the group once more."""
        key = exact(group)
        self._groups.setdefault(key, (group, Counter()))[1][pid] += 1
        self._of.setdefault(pid, {})[key] = None

    def leave(self, group: Hashable, pid: Pid) -> bool:
        """Take `pid` out of the group once; False if it was not in it."""
        key = exact(group)
        _, members = self._groups.get(key, (group, Counter[Pid]()))
        if not members[pid]:
            return False
        members[pid] -= 1
        if not members[pid]:
            del members[pid]
            del self._of[pid][key]
            if not self._of[pid]:
                del self._of[pid]
        if not members:
            del self._groups[key]
        return True

    def drop(self, pid: Pid) -> Iterator[Hashable]:
        """Take `pid` out of everything; yields each group as often as it was in it."""
        for key in list(self._of.get(pid, {})):
            group, members = self._groups[key]
            for _ in range(members[pid]):
                self.leave(group, pid)
                yield group


class Scope(GenServer[_Groups]):
    """The process of one scope, to be started under the scope's own name."""

    __slots__ = ("_links", "_monitors", "_name")

    def __init__(self, name: str = DEFAULT_SCOPE) -> None:
        self._name = name
        self._links: dict[Pid, Ref] = {}  # our monitors of members
        self._monitors: dict[GroupMonitor, Ref] = {}  # theirs of groups, with ours of them

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Any) -> Pid:
        """Start it in `runtime` under its own name."""
        return super().start_in(runtime, parent=parent, name=self._name)

    def init(self) -> _Groups:
        groups = _Groups()
        self.runtime.tables[_table_id(self._name)] = groups
        self.pid.watch(_TableOwner(self._name, groups))
        return groups

    def handle_call(self, request: Any, from_: From, state: _Groups) -> CallResult[_Groups]:
        match request:
            case ("join", group, pids):
                for pid in pids:
                    state.join(group, pid)
                    if pid not in self._links:
                        self._links[pid] = erlang.monitor(pid)
                self._tell(Change.JOIN, group, pids)
                answer: object = None
            case ("leave", group, pids):
                left = tuple(pid for pid in pids if state.leave(group, pid))
                self._forget(left, state)
                self._tell(Change.LEAVE, group, left)
                answer = bool(left)
            case ("monitor", GroupMonitor() as mark):
                self._monitors[mark] = erlang.monitor(mark.owner)
                answer = None
            case ("demonitor", mark):
                ref = self._monitors.pop(mark, None)
                if ref is not None:
                    erlang.demonitor(ref, flush=True)
                answer = ref is not None
            case _:
                raise self._undefined("handle_call", request)
        return Reply(answer, state)

    def handle_info(self, message: object, state: _Groups) -> Result[_Groups]:
        if isinstance(message, Down) and isinstance(message.target, Pid):
            pid = message.target
            if self._links.get(pid) is message.ref:
                del self._links[pid]
                for group in list(state.drop(pid)):
                    self._tell(Change.LEAVE, group, (pid,))
            else:
                gone = [mark for mark, ref in self._monitors.items() if ref is message.ref]
                for mark in gone:
                    del self._monitors[mark]
        return NoReply(state)

    def _forget(self, pids: Iterable[Pid], state: _Groups) -> None:
        for pid in set(pids):
            if not state.knows(pid):
                erlang.demonitor(self._links.pop(pid), flush=True)

    def _tell(self, change: Change, group: Hashable, pids: tuple[Pid, ...]) -> None:
        if not pids or not self._monitors:
            return
        key = exact(group)
        # Those who monitor the scope hear of it first, as on the BEAM.
        for wanted in (None, key):
            for mark in self._monitors:
                if mark.group == wanted:
                    mark.owner.send(GroupChange(mark, change, group, pids))


def start_link(scope: str = DEFAULT_SCOPE) -> Pid:
    """Start a scope linked to the calling process."""
    parent = self_process()
    return Scope(scope).start_in(parent.runtime, parent=parent, name=scope)


def start(scope: str = DEFAULT_SCOPE) -> Pid:
    """Start a scope without a link."""
    return Scope(scope).start_in(self_process().runtime, parent=None, name=scope)


async def join(group: Hashable, pids: Pid | Iterable[Pid], *, scope: str = DEFAULT_SCOPE) -> None:
    """Put one or more processes into `group`; a dead one leaves it at once.

    Raises:
        NoProcessError: there is no such scope.
    """
    await call(scope, ("join", group, _checked(pids)), None)


async def leave(group: Hashable, pids: Pid | Iterable[Pid], *, scope: str = DEFAULT_SCOPE) -> None:
    """Take one or more processes out of `group`, each once.

    Raises:
        NotJoinedError: none of them was in it.
        NoProcessError: there is no such scope.
    """
    pids = _checked(pids)
    if not await call(scope, ("leave", group, pids), None):
        raise NotJoinedError(f"none of {pids!r:.200} is in {group!r:.200}")


def get_members(group: Hashable, *, scope: str = DEFAULT_SCOPE) -> list[Pid]:
    """List the members, each as often as it joined; empty for anything unknown."""
    groups = _groups(scope)
    return [] if groups is None else groups.members(group)


def which_groups(*, scope: str = DEFAULT_SCOPE) -> list[Hashable]:
    """List the groups that have members; empty for an unknown scope."""
    groups = _groups(scope)
    return [] if groups is None else groups.names()


async def monitor(group: Hashable, *, scope: str = DEFAULT_SCOPE) -> tuple[GroupMonitor, list[Pid]]:
    """Ask for a `GroupChange` whenever `group` changes; also gives its present members."""
    mark = GroupMonitor(scope, self_process(), exact(group))
    await call(scope, ("monitor", mark), None)
    return mark, get_members(group, scope=scope)


async def monitor_scope(
    *, scope: str = DEFAULT_SCOPE
) -> tuple[GroupMonitor, dict[Hashable, list[Pid]]]:
    """Ask for a `GroupChange` whenever any group changes; also gives the present members of all."""
    mark = GroupMonitor(scope, self_process(), None)
    await call(scope, ("monitor", mark), None)
    names = which_groups(scope=scope)
    return mark, {name: get_members(name, scope=scope) for name in names}


async def demonitor(mark: GroupMonitor) -> bool:
    """End a monitor of the caller and remove what it has sent; False if it had ended."""
    known = cast("bool", await call(mark.scope, ("demonitor", mark), None))
    me = self_process()
    for envelope in list(me.queued()):
        if envelope[0] == INFO and getattr(envelope[1], "monitor", None) is mark:
            me.remove(envelope)
    return known


class _TableOwner:
    """Takes the table away when the scope's process ends."""

    __slots__ = ("_groups", "_name")

    def __init__(self, name: str, groups: _Groups) -> None:
        self._name = name
        self._groups = groups

    def ended(self, pid: Pid, reason: object) -> None:
        """The scope has ended."""
        if pid.runtime.tables.get(_table_id(self._name)) is self._groups:
            del pid.runtime.tables[_table_id(self._name)]


def _table_id(scope: str) -> tuple[str, str]:
    return ("pg", scope)


def _groups(scope: str) -> _Groups | None:
    return cast("_Groups | None", self_process().runtime.tables.get(_table_id(scope)))


def _checked(pids: Pid | Iterable[Pid]) -> tuple[Pid, ...]:
    several = (pids,) if isinstance(pids, Pid) else tuple(pids)
    for pid in several:
        if not isinstance(pid, Pid):
            raise OtpError(f"only processes can be in a group, not {pid!r:.200}")
    return several
