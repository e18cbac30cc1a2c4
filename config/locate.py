"""Line and column of the keys and values of a TOML text.

tomli says where only for syntax errors. This is a second, position-keeping pass over a text that tomli
has already accepted; it runs only when there is a problem to show. `scan` trusts the text to be valid.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

import tomli

__all__ = ["Entry", "Path", "Span", "key_at", "locate", "scan"]

Path = tuple[str | int, ...]
Span = tuple[int, int]  # offsets into the text, the second one past the end

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_SCALAR = re.compile(
    r'"""(?:[^"\\]|\\.|""?(?!"))*"""(?:"{0,2})'
    r"|'''(?:[^']|''?(?!'))*'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*"
    r"|[^\s,\]}#]+",
    re.DOTALL,
)


class Entry(NamedTuple):
    """Where one key stands, and its value; a table's value is its key, an element's key is its value.

    `explicit` is false for the tables a header only passes through.
    """

    path: Path
    key: Span
    value: Span
    explicit: bool = True


def locate(text: str, wanted: Collection[Path]) -> dict[Path, Entry]:
    """Find the wanted paths; those the text does not hold are left out.

    A table is found at its own header; failing that, where it is first passed through.
    """
    found: dict[Path, Entry] = {}
    for entry in scan(text):
        if entry.path in wanted:
            known = found.get(entry.path)
            if known is None or (entry.explicit and not known.explicit):
                found[entry.path] = entry
    return found


def scan(text: str) -> Iterator[Entry]:
    """Yield every key, table and array element of a valid TOML text."""
    return _Scanner(text).document()


def key_at(text: str, offset: int) -> list[tuple[str, Span]]:
    """Read the dotted key that starts at `offset`; [] where there is none."""
    return _Scanner(text).dotted_key(offset)[0] if _KEY.match(text, offset) else []


class _Scanner:
    """One pass; `_at` is the offset of what is read next."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._table: Path = ()
        self._arrays: dict[Path, int] = {}  # array of tables -> how many so far

    def document(self) -> Iterator[Entry]:
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                yield from self._header()
            else:
                yield from self._pair(self._table)

    def dotted_key(self, at: int) -> tuple[list[tuple[str, Span]], int]:
        parts = []
        while found := _KEY.match(self._text, at):
            parts.append((_name(found.group()), found.span()))
            dot = _DOT.match(self._text, found.end())
            if dot is None:
                return parts, found.end()
            at = dot.end()
        return parts, at

    def _header(self) -> Iterator[Entry]:
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        self._skip(_SPACE)
        keys, self._at = self.dotted_key(self._at)
        self._skip(_SPACE)
        self._at += brackets
        path: Path = ()
        for name, span in keys[:-1]:
            path = (*path, name)
            yield Entry(path, span, span, explicit=False)
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        name, span = keys[-1]
        path = (*path, name)
        yield Entry(path, span, span)
        if brackets == 2:
            number = self._arrays.get(path, 0)
            self._arrays[path] = number + 1
            path = (*path, number)
            yield Entry(path, span, span)
        self._table = path

    def _pair(self, table: Path) -> Iterator[Entry]:
        keys, self._at = self.dotted_key(self._at)
        self._skip(_EQUALS)
        path = table
        for name, span in keys[:-1]:
            path = (*path, name)
            yield Entry(path, span, span, explicit=False)
        name, span = keys[-1]
        yield from self._value((*path, name), span)

    def _value(self, path: Path, key: Span | None) -> Iterator[Entry]:
        start = self._at
        inner: list[Entry] = []
        if self._text[start] == "[":
            inner.extend(self._array(path))
        elif self._text[start] == "{":
            inner.extend(self._inline_table(path))
        else:
            self._skip(_SCALAR)
        span = (start, self._at)
        yield Entry(path, key or span, span)
        yield from inner

    def _array(self, path: Path) -> Iterator[Entry]:
        self._at += 1
        number = 0
        while not self._ended("]"):
            yield from self._value((*path, number), None)
            number += 1

    def _inline_table(self, path: Path) -> Iterator[Entry]:
        self._at += 1
        while not self._ended("}"):
            yield from self._pair(path)

    def _ended(self, bracket: str) -> bool:
        """Step over blanks and one comma; at the bracket, step over it and say so."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return self._at


def _name(raw: str) -> str:
    if "\\" in raw:
        return str(tomli.loads(f"name = {raw}")["name"])
    return raw[1:-1] if raw[0] in "\"'" else raw
