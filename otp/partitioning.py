"""Keys compared as Erlang compares them, and spread over partitions in the same way in every run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final
from zlib import crc32

__all__ = ["exact", "partition_of"]

MASK: Final = (1 << 61) - 1


def exact(key: Hashable) -> Hashable:
    """Give a stand-in for `key` that is equal only if the keys are `=:=` in Erlang: 1, 1.0 and True all differ.

    Looks into tuples and frozensets; other containers (a frozen dataclass, say) compare as Python compares them.
    """
    kind = type(key)
    if kind is str or kind is int:
        return key
    if isinstance(key, tuple):
        return (kind, *map(exact, key))
    if isinstance(key, frozenset):
        return (kind, frozenset(map(exact, key)))
    return (kind, key)


def partition_of(key: Hashable, partitions: int) -> int:
    """Choose the partition of `key`: an int by its remainder, anything else by hash.

    Strings, bytes and tuples of them go to the same partition in every run; what else is hashed, as Python does it.
    """
    if partitions == 1:
        return 0
    return (abs(key) if isinstance(key, int) else _stable_hash(key)) % partitions


def _stable_hash(key: Hashable) -> int:
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return crc32(key)
    if isinstance(key, tuple):
        folded = len(key)
        for part in key:
            folded = (folded * 1_000_003 ^ _stable_hash(part)) & MASK
        return folded
    return hash(key)
