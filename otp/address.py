"""Names kept outside the runtime's own: OTP's `{via, Module, Name}`.

An `Address` is accepted wherever a name is: to start under, to call, cast, send, monitor and stop. It is looked up
at each use, so it outlives the process behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

# Addresses find processes and the runtime takes addresses: a cycle of types only.
if TYPE_CHECKING:
    from otp.process import Pid
    from otp.runtime import Runtime

__all__ = ["Address", "Name"]


class Address(ABC):
    """A name that something other than the runtime resolves; see `otp.registry.Via`."""

    __slots__ = ()

    @abstractmethod
    def whereis(self, runtime: Runtime) -> Pid | None:
        """Find the living process of that name."""

    @abstractmethod
    def register(self, runtime: Runtime, pid: Pid) -> None:
        """Give `pid` the name; called right after `whereis` has found nobody."""

    @abstractmethod
    def unregister(self, runtime: Runtime) -> None:
        """Free the name."""


Name = str | Address
