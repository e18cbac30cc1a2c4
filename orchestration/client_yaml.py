"""Writes YAML, and nothing more: what JSON can say, in block style, read the same by YAML 1.1 and 1.2.

A string is written bare only where no reader can take it for anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

__all__ = ["to_yaml"]

BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
# YAML 1.1 reads these as something else than text.
RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_yaml(value: object) -> str:
    """Write `value`, made of dicts with text keys, lists, text, numbers, booleans and None."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: object) -> Iterator[str]:
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _entry(f"{_scalar(key)}:", item, "  ")
        case list() | tuple() if value:
            for item in value:
                yield from _item(item)
        case _:
            yield _scalar(value)


def _entry(head: str, item: object, indent: str) -> Iterator[str]:
    if isinstance(item, dict | list | tuple) and item:
        yield head
        yield from (indent + line for line in _lines(item))
    else:
        yield f"{head} {_scalar(item)}"


def _item(item: object) -> Iterator[str]:
    """Write one item of a list; its first line stands beside the dash."""
    for number, line in enumerate(_lines(item)):
        yield f"  {line}" if number else f"- {line}"


def _scalar(value: object) -> str:
    match value:
        case str():
            bare = BARE.match(value) and value.lower() not in RESERVED
            return value if bare else _quoted(value)
        case float():
            text = repr(value)
            # YAML 1.1 wants a dot in every float.
            return text.replace("e", ".0e") if "e" in text and "." not in text else text
        case dict():
            return "{}"
        case list() | tuple():
            return "[]"
        case _:
            return json.dumps(value)


def _quoted(text: str) -> str:
    """Quote as JSON does, which YAML reads; what YAML may not contain is escaped in its way."""
    return "".join(
        character if character.isprintable() else _escaped(character)
        for character in json.dumps(text, ensure_ascii=False)
    )


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
