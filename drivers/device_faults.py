"""How a simulated device misbehaves, read from a command's parameters and the device's settings.

A parameter of the command outweighs the device's setting, which outweighs the service's default.
Whether a command is struck is a function of device, key and try: a run can be repeated.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from drivers.quantities import duration_s

__all__ = ["FAULT_SCHEMA", "FAULT_WORDS", "Failure", "Faults", "read_faults"]

Failure = Literal[
    "refused", "unsupported", "denied", "busy", "conflict", "unknown", "lost", "fault"
]

_SPAN = {"type": ["string", "number"], "description": "50ms, 2s, or seconds"}

FAULT_SCHEMA: dict[str, object] = {
    "latency": {**_SPAN, "description": "how long the command takes"},
    "fail": {
        "enum": list(get_args(Failure)),
        "description": "the device's answer; unknown: done, answer lost; lost: not done, answer lost",
    },
    "hang": {
        "type": ["boolean", "string", "number"],
        "description": "true: until cancelled or the service restarts; a duration: that long",
    },
    "crash": {
        "enum": [True, False, "after"],
        "description": "the driver raises an unexpected exception; after: once it has taken effect",
    },
    "lie": {"type": "boolean", "description": "answers OK and does nothing"},
    "accept": {"type": "boolean", "description": "answers at once and is done after `latency`"},
    "times": {"type": "integer", "minimum": 1, "description": "only so many tries of a command"},
    "rate": {"type": "number", "minimum": 0, "maximum": 1, "description": "share of commands"},
}

FAULT_WORDS = frozenset(FAULT_SCHEMA)


class Faults(Struct, frozen=True, kw_only=True):
    """What happens to a command: `latency_s` always, the rest to the share and the tries given."""

    latency_s: float = 0.0
    accept: bool = False
    fail: Failure | None = None
    hang_s: float | None = None  # inf: until cancelled
    crash: Literal["", "before", "after"] = ""
    lie: bool = False
    times: int | None = None
    rate: float = 1.0

    @property
    def harmless(self) -> bool:
        """Whether it delays at most."""
        return not (self.fail or self.crash or self.lie) and self.hang_s is None

    def strike(self, device: str, key: str, tries: int) -> bool:
        """Say whether try number `tries` (from 1) of the command `key` is struck."""
        if self.times is not None and tries > self.times:
            return False
        if self.rate >= 1.0:
            return True
        return zlib.crc32(f"{device} {key} {tries}".encode()) / 2**32 < self.rate

    def spared(self) -> Faults:
        """Return what is left of it for a command that is not struck."""
        return Faults(latency_s=self.latency_s, accept=self.accept)


def read_faults(
    params: Mapping[str, object], config: Mapping[str, object], default: Faults
) -> Faults:
    """Read the fault words out of a command's parameters and the device's settings.

    Raises:
        ValueError: a fault word has a value it cannot have.
    """
    found = {**config, **params}
    words = {word: found[word] for word in FAULT_WORDS if word in found}
    if not words:
        return default
    fields: dict[str, object] = msgspec.structs.asdict(default)
    for word, value in words.items():
        name, read = _read(word, value)
        fields[name] = read
    try:
        return msgspec.convert(fields, Faults)
    except msgspec.ValidationError as error:
        raise ValueError(f"bad fault setting {words}: {error}") from error


def _read(word: str, value: object) -> tuple[str, object]:
    match word, value:
        case "latency", _:
            return "latency_s", duration_s(value)
        case "hang", bool():
            return "hang_s", float("inf") if value else None
        case "hang", _:
            return "hang_s", duration_s(value)
        case "crash", bool():
            return "crash", "before" if value else ""
        case _:
            return word, value
