"""How results leave: tables for people, versioned JSON, JSON lines, YAML and names for programs.

Data goes to stdout, everything else to stderr. A table's columns are as wide as its first page of rows
needs, so a million rows start to appear at once and are never held together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import msgspec
from msgspec import Struct

from orchestration.client_views import View
from orchestration.client_yaml import to_yaml

__all__ = ["API_VERSION", "FORMATS", "Console", "wants_color"]

API_VERSION = "cloudctl/v1"
FORMATS = ("table", "wide", "json", "jsonl", "yaml", "name")
PAGE = 1000
GAP = "   "

_encode = msgspec.json.Encoder().encode


def wants_color(choice: str, *, is_terminal: bool) -> bool:
    """Decide on colours: `--color`, then NO_COLOR, FORCE_COLOR and TERM, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The two streams and how to write on them."""

    color: str = "auto"
    format: str = "table"
    headers: bool = True
    quiet: bool = False

    @property
    def is_machine(self) -> bool:
        """Say whether a program reads the output."""
        return self.format in {"json", "jsonl", "yaml"}

    def write(self, text: str) -> None:
        """Put a line of data on stdout."""
        sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Tell the person at the terminal, on stderr."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def records(self, view: View, records: Iterable[Struct]) -> None:
        """Write records in the chosen format."""
        match self.format:
            case "json" | "yaml":
                items = [msgspec.to_builtins(record) for record in records]
                self.document(f"{view.kind}List", items=items)
            case "jsonl":
                for record in records:
                    self.write(_encode(record).decode())
            case "name":
                for record in records:
                    self.write(f"{view.name}/{view.name_of(record)}")
            case _:
                self.table(view, records)

    def stream(self, view: View, record: Struct) -> None:
        """Write one record of many to come, at once: a line each, aligned by nothing."""
        match self.format:
            case "yaml":
                sys.stdout.write("---\n" + to_yaml(msgspec.to_builtins(record)))
            case "json" | "jsonl":
                self.write(_encode(record).decode())
            case "name":
                self.write(f"{view.name}/{view.name_of(record)}")
            case _:
                columns = view.columns | (view.wide if self.format == "wide" else {})
                self.write("  ".join(_cell(value(record)) for value in columns.values()).rstrip())
        sys.stdout.flush()

    def document(self, kind: str, **content: object) -> None:
        """Write one versioned document, as YAML if that was chosen, else as JSON."""
        whole = {"apiVersion": API_VERSION, "kind": kind} | msgspec.to_builtins(content)
        if self.format == "yaml":
            sys.stdout.write(to_yaml(whole))
        elif self.format == "jsonl":
            self.write(_encode(whole).decode())
        else:
            self.write(msgspec.json.format(_encode(whole), indent=2).decode())

    def table(self, view: View, records: Iterable[Struct]) -> None:
        """Write aligned columns; nothing at all, but a note on stderr, when there is no record."""
        columns = view.columns | (view.wide if self.format == "wide" else {})
        rows = ([_cell(value(record)) for value in columns.values()] for record in records)
        if not self.rows(list(columns), rows):
            self.say(f"no {view.name}s" if view.name != "work" else "no work")

    def rows(self, titles: list[str], rows: Iterator[list[str]]) -> bool:
        """Write rows under `titles`; say whether there were any."""
        page = list(islice(rows, PAGE))
        if not page:
            return False
        head = [titles] if self.headers else []
        widths = [max(map(len, column)) for column in zip(*head, *page, strict=True)]
        for row in chain(head, page, rows):
            line = GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.write(line.rstrip())
        return True

    def paint(self, text: str, code: str, *, on_stderr: bool = False) -> str:
        """Colour `text` with an ANSI code if colours are wanted on that stream."""
        stream = sys.stderr if on_stderr else sys.stdout
        if not wants_color(self.color, is_terminal=stream.isatty()):
            return text
        return f"\x1b[{code}m{text}\x1b[0m"


def _cell(value: object) -> str:
    text = str(value)
    # One record is one line, and a device's error text is not trusted with the terminal.
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
