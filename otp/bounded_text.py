"""Terms as text of bounded length, whatever they are: for reports and the messages of errors.

A server may fail with a text of 100 MB, with an object whose `__repr__` raises, or with a list that contains itself;
what is said about it stays small, is made without rendering the whole, and never fails itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from itertools import islice
from reprlib import Repr
from typing import Any, Final

__all__ = ["DEPTH", "MAX_TEXT", "bounded_text"]

MAX_TEXT: Final = 500  # characters per field of a report
DEPTH: Final = 4  # of nested containers in it
MAX_PART: Final = 200  # characters of one value
MAX_ITEMS: Final = 8  # of one container
MAX_FIELDS: Final = 12  # of one record
MAX_SORTED: Final = 1000  # a larger set or mapping is shown as it comes
MAX_BITS: Final = 3000  # more than that CPython may refuse to write as decimals


def bounded_text(term: object, depth: int | None = None) -> str:
    """Show `term` in at most `MAX_TEXT` characters; never raises.

    Containers, texts, numbers, records and errors are not rendered whole first; any other object is asked for its own
    `__repr__`, and cut.

    Args:
        term: what to show.
        depth: how deep containers are shown; `DEPTH` by default.
    """
    text = _bounded.repr1(term, DEPTH if depth is None else depth)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


class _BoundedRepr(Repr):
    """A repr whose every part is bounded, also the fields of a record and the arguments of an error."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = DEPTH
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = MAX_ITEMS
        self.maxdeque = self.maxarray = MAX_ITEMS
        self.maxstring = self.maxother = self.maxlong = MAX_PART

    def repr1(self, x: object, level: int) -> str:
        """Render anything; what cannot be rendered is named by its type and address."""
        try:
            # reprlib goes by the name of the type: a class of somebody's called `list` is no list.
            known = type(x).__module__ in _MODULES
            return super().repr1(x, level) if known else self.repr_instance(x, level)
        except Exception:  # noqa: BLE001 - a `__repr__` may raise anything
            return f"<{type(x).__name__} instance at {id(x):#x}>"

    def repr_bytes(self, x: bytes | bytearray, level: int) -> str:
        """Render the beginning of bytes."""
        return super().repr_instance(x[: MAX_PART + 1], level)

    repr_bytearray = repr_bytes

    def repr_int(self, x: int, level: int) -> str:
        """Render a number; the size of one that is too long for that."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits <= MAX_BITS else f"<int of {bits} bits>"

    def repr_set(self, x: set[Any], level: int) -> str:
        """Render a set without sorting all of a large one."""
        return super().repr_set(_some(x, set), level)

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        """Render a set without sorting all of a large one."""
        return super().repr_frozenset(_some(x, frozenset), level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Render a mapping without sorting all keys of a large one."""
        if len(x) > MAX_SORTED:
            x = {key: x[key] for key in islice(x, MAX_ITEMS + 1)}
        return super().repr_dict(x, level)

    def repr_raised(self, x: Any, level: int) -> str:
        """Render an exit reason `Raised`: the error, and where; within other terms the innermost frame alone."""
        frames = reversed(x.stack if level == self.maxlevel else x.stack[-1:])
        where = "".join(f" < {file}:{line} {name}" for file, line, name in frames)
        return self.repr1(x.error, level) + where

    def repr_instance(self, x: object, level: int) -> str:
        """Render an object that is no built-in container."""
        cls = type(x)
        if cls.__name__ == "Raised":
            return self.repr_raised(x, level)
        if isinstance(x, BaseException):
            return f"{cls.__name__}({self._joined(x.args, level)})"
        record = _fields_of(x)
        if record is not None:
            return f"{cls.__name__}({self._fields(x, record, level)})"
        base = next((each for each in cls.__mro__ if each in _LARGE), None)
        if base is None or (base in _SCALARS and _is_small(x)):
            return super().repr_instance(x, level)
        shown: str = getattr(self, f"repr_{base.__name__}")(x, level)
        return f"{cls.__name__}({shown})"

    def _fields(self, x: object, names: Iterable[str], level: int) -> str:
        if level <= 0:
            return self.fillvalue
        return ", ".join(
            f"{name}={self.repr1(getattr(x, name, '?'), level - 1)}"
            for name in islice(names, MAX_FIELDS)
        )

    def _joined(self, terms: Iterable[object], level: int) -> str:
        if level <= 0:
            return self.fillvalue
        return ", ".join(self.repr1(term, level - 1) for term in islice(terms, MAX_ITEMS))


def _fields_of(x: object) -> Iterable[str] | None:
    """Name the fields of a dataclass, a msgspec.Struct, a named tuple, or slots that have no text of their own."""
    if isinstance(x, type):
        return None
    if is_dataclass(x):
        return (field.name for field in fields(x))
    named = getattr(type(x), "__struct_fields__", None) or getattr(type(x), "_fields", None)
    if named is None and type(x).__repr__ is object.__repr__:
        named = tuple(name for cls in reversed(type(x).__mro__) for name in _slots(cls))
    return named if isinstance(named, tuple) and named else None


def _slots(cls: type) -> Iterable[str]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return (name for name in sorted(names) if not name.startswith("_"))


def _is_small(x: Any) -> bool:
    return (x.bit_length() if isinstance(x, int) else len(x)) <= MAX_PART


def _some(x: Any, kind: type) -> Any:
    return x if len(x) <= MAX_SORTED else kind(islice(x, MAX_ITEMS + 1))


_MODULES: Final = frozenset({"builtins", "collections", "array"})
_SCALARS: Final = frozenset({str, bytes, bytearray, int})
_LARGE: Final = _SCALARS | {dict, list, tuple, set, frozenset, deque}
_bounded = _BoundedRepr()
