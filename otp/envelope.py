"""What lies in mailboxes, and the states a process can be in. Nothing here does anything."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

__all__ = [
    "CALL",
    "CAST",
    "CONTINUE",
    "DEAD",
    "DOOMED",
    "EXIT",
    "IDLE",
    "INFO",
    "INIT",
    "READY",
    "RUNNING",
    "SYSTEM",
    "TERMINATE",
    "TIMER",
    "WAITING",
    "AnswerT_co",
    "Call",
    "Cast",
    "Envelope",
]

AnswerT_co = TypeVar("AnswerT_co", covariant=True)

# Status of a process. From READY on, nobody has to be woken for a message.
IDLE: Final = 0  # nothing to do
WAITING: Final = 1  # a callback awaits something
READY: Final = 2  # on the run queue
RUNNING: Final = 3  # on the Python stack
DOOMED: Final = 4  # got a fatal signal while on the stack; dies when the callback returns
DEAD: Final = 5

# Kinds of envelope.
CAST: Final = 0
CALL: Final = 1
INFO: Final = 2
EXIT: Final = 3
SYSTEM: Final = 4
CONTINUE: Final = 5
TERMINATE: Final = 6
INIT: Final = 7
TIMER: Final = 8  # a time-out of a gen_statem has run out


class Envelope(tuple[Any, ...]):
    """(kind, content), or (kind, request, From) for a call; no user ever holds one.

    What lies in a mailbox is an `Envelope`, or a `From` for most calls, or anything else: then it is a cast, bare,
    because a million waiting casts should cost no tuple each. `otp.waiting.opened` makes envelopes of all three.
    """

    __slots__ = ()


class Call(Generic[AnswerT_co]):
    """A request that names the type of its answer: `class ListQuiet(Call[tuple[str, ...]])`."""

    __slots__ = ()


class Cast:
    """A message that tells what happened and wants no answer; deriving from it is optional."""

    __slots__ = ()
