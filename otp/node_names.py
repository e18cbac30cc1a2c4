"""Names with more to them than a word: on a node, and global.

`OnNode("clock", node)` is OTP's `{Name, Node}`: found if `node` is the runtime's own; for other nodes
`otp.distribution.remote` keeps `Nodes` in the runtime's tables. `Global(term)` is a name of any kind in a table of its own;
a process may have many such names besides its local one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from otp.address import Address
from otp.errors import NameTakenError
from otp.process import Pid
from otp.runtime import Runtime

__all__ = ["NODES", "Global", "Nodes", "OnNode"]

NODES: Final = "other nodes"
_TABLE: Final = "global names"


class Nodes(Protocol):
    """Whoever can reach other nodes; kept as `NODES` in the tables of a runtime."""

    def named(self, name: str, node: str) -> Pid:
        """Give what sends to the process of that name there, be there one or not."""


@dataclass(frozen=True, slots=True)
class OnNode(Address):
    """The process registered as `name` at `node`."""

    name: str
    node: str

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Find it, if the node is this one or can be reached."""
        if self.node == runtime.node:
            return runtime.whereis(self.name)
        nodes: Nodes | None = runtime.tables.get(NODES)
        return None if nodes is None else nodes.named(self.name, self.node)

    def register(self, runtime: Runtime, pid: Pid) -> None:
        """Refuse: a process is named where it lives."""
        raise NameTakenError(f"a process cannot be registered as {self!r}")

    def unregister(self, runtime: Runtime) -> None:
        """Refuse."""
        raise NameTakenError(f"{self!r} cannot be unregistered")


@dataclass(frozen=True, slots=True)
class Global(Address):
    """A name that is any hashable term."""

    term: object

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Find the living process of that name."""
        pid: Pid | None = _names(runtime).get(self.term)
        return pid

    def register(self, runtime: Runtime, pid: Pid) -> None:
        """Give `pid` the name."""
        names = _names(runtime)
        if self.term in names or not pid.is_alive():
            raise NameTakenError(f"cannot name {pid!r} {self.term!r:.200}: taken, or dead")
        names[self.term] = pid
        pid.watch(_Freeing(names, self.term))

    def unregister(self, runtime: Runtime) -> None:
        """Free the name."""
        _names(runtime).pop(self.term, None)


class _Freeing:
    """Frees a name when its process ends."""

    __slots__ = ("names", "term")

    def __init__(self, names: dict[object, Pid], term: object) -> None:
        self.names = names
        self.term = term

    def ended(self, pid: Pid, reason: object) -> None:
        """Free the name, if it is still the process's."""
        if self.names.get(self.term) is pid:
            del self.names[self.term]


def _names(runtime: Runtime) -> dict[object, Pid]:
    names: dict[object, Pid] = runtime.tables.setdefault(_TABLE, {})
    return names
