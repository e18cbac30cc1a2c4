"""How driver errors and exit reasons are named in reports: whatever a driver says, in a bounded text."""

from __future__ import annotations

import re
from typing import Final

from drivers.contract import DriverError, NotStartedError
from otp import Raised
from rpc.messages import Fault

__all__ = ["describe", "error_text", "fault_kind", "fault_of", "reason_class", "reason_text"]

MAX_TEXT: Final = 2000  # characters; it goes into reports, the journal and tables
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def fault_kind(error: BaseException) -> str:
    """Name the class of `error`: StaleEpochError is "stale_epoch"."""
    return _CAPITAL.sub("_", type(error).__name__.removesuffix("Error")).lower()


def fault_of(error: DriverError) -> Fault:
    """Say in a report why a command did not run."""
    return Fault(fault_kind(error), error_text(error), isinstance(error, NotStartedError))


def error_text(error: object) -> str:
    """Give what `error` says, bounded; it may be a driver's own class, whose text may even fail."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - a driver's `__str__`
        return f"<its text cannot be had: {type(second).__name__}>"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"


def describe(error: BaseException) -> str:
    """Put `error` into one line for people."""
    text = error_text(error)
    return f"{fault_kind(error)}: {text}" if text else fault_kind(error)


def reason_class(reason: object) -> str:
    """Name the class of an exit reason, for counting."""
    match reason:
        case Raised(error):
            return fault_kind(error)
        case (str(kind), *_):
            return kind
        case _:
            return error_text(reason)


def reason_text(reason: object) -> str:
    """Put an exit reason into one line for people."""
    match reason:
        case Raised(error):
            return describe(error)
        case (str(kind), str(text)):
            return f"{kind}: {text}"
        case _:
            return error_text(reason)
