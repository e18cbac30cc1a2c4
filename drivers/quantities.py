"""Durations and sizes as operators write them: `50ms`, `2s`, `512MiB`.

Drivers read their parameters through this, so that one spelling holds for all of them.
"""

from __future__ import annotations

import re

__all__ = ["duration_s", "size_bytes"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B)?")
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def duration_s(value: object) -> float:
    """Read a duration; a bare number is seconds.

    Raises:
        ValueError: not a duration, or below zero.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write it as 50ms, 2s or 1m")
    return float(match[1]) * _SECONDS[match[2]]


def size_bytes(value: object) -> int:
    """Read a size; a bare number is bytes.

    Raises:
        ValueError: not a size, or below zero.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write it as 512MiB or 4GiB")
    return int(float(match[1]) * _BYTES[match[2] or "B"])
