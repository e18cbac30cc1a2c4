"""Durations ("200ms", "1m30s") and amounts (32, "256GiB") as an operator writes them."""

from __future__ import annotations

import math
import re

__all__ = [
    "DURATION_PATTERN",
    "SIZE_PATTERN",
    "Amount",
    "Duration",
    "DurationError",
    "SizeError",
    "decode_quantity",
]

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|[KMGTPE]i?B)$"

LONGEST_S = 365 * 86400.0
LARGEST = 2.0**63  # what the journal and every driver can count

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PREFIXES = "KMGTPE"
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(B|[KMGTPE]i?B)$")
_LOOSE_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")
_UNIT_WORDS = {
    "": "s",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "msec": "ms",
    "millis": "ms",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
}


class QuantityError(ValueError):
    """A text is no quantity; `hint` is what could be meant. The loader reports it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class DurationError(QuantityError):
    """A text is no duration."""


class SizeError(QuantityError):
    """A text is no size."""


class Duration(float):
    """Seconds, above zero and at most a year; written with a unit: "60s", "200ms", "5m", "1h30m"."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read a duration.

        Raises:
            DurationError: no unit, an unknown unit, zero, or more than a year.
        """
        if not isinstance(value, str) or not _DURATION.match(value):
            raise DurationError(f"{_shown(value)} is not a duration", _duration_hint(value))
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(value))
        if not 0 < seconds <= LONGEST_S:
            raise DurationError(f"{_shown(value)} is out of range", "from 1ms to 365d")
        return cls(seconds)


class Amount(float):
    """A count, or bytes where written with a unit: 32, 0.5, "256GiB", "10GB"."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Amount:
        """Read an amount.

        Raises:
            SizeError: not a number of zero or more, nor a number with a byte unit.
        """
        if isinstance(value, str):
            return cls(_bytes(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SizeError(f"{_shown(value)} is not an amount", _AMOUNT_HINT)
        if math.isnan(value) or not 0 <= value < LARGEST:
            raise SizeError(f"{_shown(value)} is out of range", "from 0 to below 2^63")
        return cls(value)


_AMOUNT_HINT = 'write a number (32) or a size with its unit ("256GiB", "10GB")'


def decode_quantity(kind: type, value: object) -> object:
    """Decode the types of this module for `msgspec.convert`."""
    if issubclass(kind, Duration | Amount):
        return kind.parse(value)
    if kind is object:  # a value of a driver's own settings
        return value
    raise NotImplementedError(kind)


def _bytes(text: str) -> float:
    found = _SIZE.match(text)
    if found is None:
        raise SizeError(f"{_shown(text)} is not a size", _size_hint(text))
    number, unit = found.groups()
    base = 1024.0 if "i" in unit else 1000.0
    power = _PREFIXES.find(unit[0]) + 1  # "B" is not a prefix: power 0
    size = float(number) * base**power
    if size >= LARGEST:
        raise SizeError(f"{_shown(text)} is out of range", "from 0 to below 8EiB")
    return size


def _duration_hint(value: object) -> str:
    loose = None if isinstance(value, bool) else _LOOSE_NUMBER.match(str(value))
    if loose:
        number, word = loose.groups()
        unit = _UNIT_WORDS.get(word.lower(), word.lower())
        if unit in _SECONDS:
            return f'did you mean "{number}{unit}"?'
    return 'a duration is a number with ms, s, m, h or d: "200ms", "60s", "1h30m"'


def _size_hint(text: str) -> str:
    loose = _LOOSE_NUMBER.match(text)
    if loose:
        number, word = loose.groups()
        if not word:
            return f"write the number without quotes: {number}"
        for unit in (*(f"{p}{i}B" for p in _PREFIXES for i in ("i", "")), "B"):
            if word.lower() in {unit.lower(), unit.lower().removesuffix("b")}:
                return f'did you mean "{number}{unit}"?'
    return _AMOUNT_HINT


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
