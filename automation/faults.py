"""How driver errors and exit reasons are named in reports."""

from __future__ import annotations

import re

from drivers.contract import DriverError, NotStartedError
from otp import Raised
from rpc.messages import Fault

__all__ = ["describe", "fault_kind", "fault_of", "reason_class", "reason_text"]

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


def reason_class(reason: object) -> str:
    """Name the class of an exit reason, for counting."""
    match reason:
        case Raised(error):
            return fault_kind(error)
        case (str(kind), *_):
            return kind
        case _:
            return str(reason)


def reason_text(reason: object) -> str:
    """Put an exit reason into one line for people."""
    match reason:
        case Raised(error):
            return describe(error)
        case (str(kind), str(text)):
            return f"{kind}: {text}"
        case _:
            return str(reason)
