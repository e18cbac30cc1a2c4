"""Names of regions, zones, pods and resources, and the `{01..40}` ranges in them.

A key of the file stands for one name, for many (`host-{01..40}`, several ranges multiply), or, with one
`*`, for a template. Counting comes before expanding, so that a slip of the finger costs no memory.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

from msgspec import Struct

from config.problems import Code

__all__ = ["NAME_PATTERN", "BadNameError", "NamePattern", "NumberRange", "parse_name"]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$(?!\n)"
LONGEST = 63  # a DNS label, so that a name can become a host name

_NAME = re.compile(NAME_PATTERN)
_BRACES = re.compile(r"(\{[^{}]*\})")
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]")


class BadNameError(ValueError):
    """A key is no name; the loader reports `code`, the text and `hint`."""

    def __init__(self, code: Code, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class NumberRange(Struct, frozen=True):
    """The numbers `first` to `last`, both included, padded with zeros to `width`."""

    first: int
    last: int
    width: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self.width}d}" for number in range(self.first, self.last + 1))


class NamePattern(Struct, frozen=True):
    """A checked key: literal parts and ranges by turns; `template` when it holds a `*`."""

    parts: tuple[str | NumberRange, ...]
    template: bool

    @property
    def count(self) -> int:
        """How many names it stands for."""
        return math.prod(len(part) for part in self.parts if isinstance(part, NumberRange))

    def names(self) -> Iterator[str]:
        """Every name, the last range fastest."""
        choices = [(part,) if isinstance(part, str) else part for part in self.parts]
        return ("".join(chosen) for chosen in itertools.product(*choices))


def parse_name(key: str, *, template: bool = False) -> NamePattern:
    """Read a key of the file; one `*` is allowed where `template` is.

    Raises:
        BadNameError: empty, too long, a bad character, or a bad range.
    """
    if not key:
        raise BadNameError(Code.EMPTY_NAME, "the name is empty", 'write a name: "rack-1"')
    parts = tuple(
        _range(part) if part.startswith("{") else part for part in _BRACES.split(key) if part
    )
    longest = "".join(part if isinstance(part, str) else str(part.last) for part in parts)
    stars = longest.count("*")
    if stars > (1 if template else 0):
        raise _star_error(key, template=template)
    _check_characters(key, longest.replace("*", "0"))
    return NamePattern(parts, stars == 1)


def _range(text: str) -> NumberRange:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise BadNameError(
            Code.BAD_RANGE, f"`{text}` is not a range", "a range is two numbers: {1..40}, {01..40}"
        )
    first, last = found.groups()
    if max(len(first), len(last)) > 12:
        raise BadNameError(
            Code.BAD_RANGE, f"the numbers of `{text}` are too long", "12 digits at most"
        )
    if int(first) > int(last):
        hint = f"write {{{last}..{first}}}"
        raise BadNameError(Code.BAD_RANGE, f"the range `{text}` runs backwards", hint)
    padded = (first[0] == "0" and len(first) > 1) or (last[0] == "0" and len(last) > 1)
    return NumberRange(int(first), int(last), max(len(first), len(last)) if padded else 1)


def _star_error(key: str, *, template: bool) -> BadNameError:
    if template:
        return BadNameError(
            Code.BAD_NAME, f"the template `{key}` has more than one `*`", "keep one"
        )
    return BadNameError(
        Code.BAD_NAME,
        f"the name `{key}` has a bad character `*`",
        "only resources can be templates; for several use a range: {1..4}",
    )


def _check_characters(key: str, sample: str) -> None:
    if len(sample) > LONGEST:
        limit = f"a name has at most {LONGEST} characters"
        raise BadNameError(Code.BAD_NAME, f"the name `{key}` is too long ({len(sample)})", limit)
    bad = _FORBIDDEN.search(sample)
    if bad and bad.group() in "{}":
        hint = "a range is two numbers in braces: {01..40}"
        raise BadNameError(Code.BAD_RANGE, f"the braces of `{key}` do not match", hint)
    if bad:
        hint = "names are made of letters, digits, `-`, `_` and `.`"
        if bad.group() == "/":
            hint += "; the path comes from the tables around it"
        raise BadNameError(
            Code.BAD_NAME, f"the name `{key}` has a bad character {bad.group()!r}", hint
        )
    if not _NAME.match(sample):
        raise BadNameError(
            Code.BAD_NAME,
            f"the name `{key}` starts with `{sample[0]}`",
            "start with a letter or digit",
        )
