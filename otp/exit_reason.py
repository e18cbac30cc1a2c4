"""Exit reasons: plain values, compared by value, OTP's names as strings.

`"normal"`, `"shutdown"` and `("shutdown", anything)` are clean. An uncaught exception becomes `Raised`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from otp.bounded_text import bounded_text
from otp.errors import ExitError

__all__ = ["KILL", "KILLED", "NOPROC", "NORMAL", "SHUTDOWN", "Raised", "is_clean", "reason_of"]

NORMAL = "normal"
SHUTDOWN = "shutdown"
KILL = "kill"
KILLED = "killed"
NOPROC = "noproc"

# Deeper stacks keep their innermost frames: that is where it failed.
MAX_FRAMES = 20


@dataclass(frozen=True, slots=True, repr=False)
class Raised:
    """The reason of a process that let an exception escape: OTP's `(error, stack)`.

    The error's traceback is cut off, since its frames would keep the dead process's data alive.
    """

    error: BaseException
    stack: tuple[tuple[str, int, str], ...]  # (file, line, function), innermost last

    def __repr__(self) -> str:
        return f"Raised({bounded_text(self)})"

    def __str__(self) -> str:
        where = "".join(f"\n  {file}:{line} in {name}" for file, line, name in self.stack)
        return f"{bounded_text(self.error)}{where}"


def is_clean(reason: object) -> bool:
    """Tell whether a transient child that ends with `reason` has done its work."""
    if type(reason) is str:
        return reason in (NORMAL, SHUTDOWN)
    return type(reason) is tuple and len(reason) == 2 and _is_shutdown(reason[0])


def reason_of(error: BaseException) -> object:
    """Turn an exception that left a process into its exit reason."""
    if isinstance(error, ExitError):
        return error.reason
    stack = _frames(error.__traceback__)
    return Raised(error.with_traceback(None), stack)


def _is_shutdown(term: object) -> bool:
    return type(term) is str and term == SHUTDOWN


def _frames(traceback: TracebackType | None) -> tuple[tuple[str, int, str], ...]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(frames[-MAX_FRAMES:])
