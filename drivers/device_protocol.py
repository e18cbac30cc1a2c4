"""What the simulated driver and the device service say to each other, and how it is framed.

A frame is a 4-byte big-endian length and a msgpack list: one batch, handled in order. The first message
of a connection is `Hello`. A newer connection of the same session cuts the older one off: what that one
had not yet read is never executed, so a look at the device after a reconnect sees the last word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct, field

from drivers.contract import Epoch, Observation

__all__ = [
    "Answer",
    "Apply",
    "Ask",
    "Cancel",
    "Changed",
    "Claim",
    "Frames",
    "Hello",
    "Observe",
    "Poke",
    "Probe",
    "Reply",
    "Resume",
    "Seen",
    "Settle",
    "Word",
    "ask_frames",
    "frame",
    "reply_frames",
]

FRAME_LIMIT_BYTES = 64 * 2**20

T = TypeVar("T")


class Ask(Struct, frozen=True, array_like=True):
    """Base of the requests; `number` comes back in the answer."""

    number: int


class Hello(Ask, frozen=True, array_like=True, tag="hello"):
    """Who is calling, and which of its connections this is; `events`: wants `Changed`."""

    session: str
    generation: int
    events: bool = False


class Probe(Ask, frozen=True, array_like=True, tag="probe"):
    """Answered as soon as the service is well."""


class Claim(Ask, frozen=True, array_like=True, tag="claim"):
    """Raise the fence of each device to its epoch and describe it."""

    devices: list[tuple[str, Epoch]]


class Observe(Ask, frozen=True, array_like=True, tag="observe"):
    """Describe a device."""

    device: str


class Apply(Ask, frozen=True, array_like=True, tag="apply"):
    """Execute one command."""

    device: str
    unit: str
    step: int
    epoch: Epoch
    verb: str
    params: dict[str, object] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)


class Settle(Ask, frozen=True, array_like=True, tag="settle"):
    """Ask whether the command `key` was applied."""

    device: str
    key: str


class Resume(Ask, frozen=True, array_like=True, tag="resume"):
    """Ask how the accepted command `key` is going."""

    device: str
    key: str


class Cancel(Ask, frozen=True, array_like=True, tag="cancel"):
    """Stop the command `key` if it still runs."""

    device: str
    key: str


class Poke(Ask, frozen=True, array_like=True, tag="poke"):
    """Change a device behind everybody's back; `state` None removes it."""

    device: str
    state: dict[str, object] | None


class Reply(Struct, frozen=True, array_like=True):
    """Base of the answers."""

    number: int


class Word(Reply, frozen=True, array_like=True, tag="word"):
    """An answer to `Hello`, `Probe`, `Settle`, `Cancel` and `Poke` in one word."""

    word: str


class Answer(Reply, frozen=True, array_like=True, tag="answer"):
    """How a command went; `seen` is the device afterwards with its latest key alone."""

    outcome: str
    detail: str = ""
    seen: Observation | None = None


class Seen(Reply, frozen=True, array_like=True, tag="seen"):
    """Devices in the order asked; in place of one that has seen a newer epoch, why not."""

    devices: list[Observation | str]


class Changed(Struct, frozen=True, array_like=True, tag="changed"):
    """Unasked: a device has changed by itself."""

    device: str


_encoder = msgspec.msgpack.Encoder()


class Frames(Generic[T]):
    """Cuts a byte stream into batches."""

    __slots__ = ("_buffer", "_decoder")

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[T]]) -> None:
        self._buffer = bytearray()
        self._decoder = decoder

    def feed(self, data: bytes) -> Iterator[list[T]]:
        """Take what has arrived and yield every batch that is complete.

        Raises:
            ValueError: not our frames; the connection is closed.
        """
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= 4:
            (size,) = struct.unpack_from(">I", self._buffer, start)
            if size > FRAME_LIMIT_BYTES:
                raise ValueError(f"a frame of {size} bytes, more than {FRAME_LIMIT_BYTES}")
            if len(self._buffer) - start - 4 < size:
                break
            yield self._decoder.decode(bytes(self._buffer[start + 4 : start + 4 + size]))
            start += 4 + size
        del self._buffer[:start]


def frame(batch: list[Ask] | list[Reply | Changed]) -> bytes:
    """Encode a batch."""
    payload = _encoder.encode(batch)
    return struct.pack(">I", len(payload)) + payload


def ask_frames() -> Frames[Ask]:
    """Return the service's side."""
    asks = Hello | Probe | Claim | Observe | Apply | Settle | Resume | Cancel | Poke
    return Frames(msgspec.msgpack.Decoder(list[asks]))


def reply_frames() -> Frames[Reply | Changed]:
    """Return the client's side."""
    return Frames(msgspec.msgpack.Decoder(list[Word | Answer | Seen | Changed]))
