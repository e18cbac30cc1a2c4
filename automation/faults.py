"""How driver errors are named in reports."""

from __future__ import annotations

import re

from drivers.contract import DriverError, NotStartedError
from rpc.messages import Fault

__all__ = ["describe", "fault_kind", "fault_of"]

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def fault_kind(error: BaseException) -> str:
    """Name the class of `error`: StaleEpochError is "stale_epoch"."""
    return _CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()


def fault_of(error: DriverError) -> Fault:
    """Say in a report why a command did not run."""
    return Fault(fault_kind(error), str(error), isinstance(error, NotStartedError))


def describe(error: BaseException) -> str:
    """Put `error` into one line for people."""
    return f"{fault_kind(error)}: {error}" if str(error) else fault_kind(error)
