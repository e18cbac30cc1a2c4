"""What is wrong with an operator's file, where, and how it is shown.

`ConfigError` carries every problem of a run in the order of the files. Nothing here reads a file.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

__all__ = ["Code", "ConfigError", "ConfigProblem"]

_LONGEST_LINE = 200

_RED, _BLUE, _CYAN, _BOLD, _PLAIN = "\x1b[1;31m", "\x1b[1;34m", "\x1b[1;36m", "\x1b[1m", "\x1b[0m"


class Code(Enum):
    """The codes of configuration problems; docs/errors.md explains each."""

    UNREADABLE = "CLOUDCTL-E0101"
    SYNTAX = "CLOUDCTL-E0102"
    UNKNOWN_KEY = "CLOUDCTL-E0103"
    WRONG_TYPE = "CLOUDCTL-E0104"
    MISSING = "CLOUDCTL-E0105"
    UNKNOWN_DRIVER = "CLOUDCTL-E0106"
    DUPLICATE = "CLOUDCTL-E0107"
    EMPTY_NAME = "CLOUDCTL-E0108"
    BAD_NAME = "CLOUDCTL-E0109"
    BAD_DURATION = "CLOUDCTL-E0110"
    BAD_SIZE = "CLOUDCTL-E0111"
    OUT_OF_RANGE = "CLOUDCTL-E0112"
    NOT_A_CHOICE = "CLOUDCTL-E0113"
    BAD_RANGE = "CLOUDCTL-E0114"
    TOO_MANY = "CLOUDCTL-E0115"
    NO_SUCH_FILE = "CLOUDCTL-E0116"
    INCLUDE_CYCLE = "CLOUDCTL-E0117"
    SET_TWICE = "CLOUDCTL-E0118"
    TEMPLATES_OVERLAP = "CLOUDCTL-E0119"
    ENVIRONMENT = "CLOUDCTL-E0120"


class ConfigProblem(Struct, frozen=True, kw_only=True):
    """One mistake; `line` and `column` count characters from 1, 0 means the file as a whole.

    `text` is the line as written, `width` how many characters of it the caret marks.
    """

    code: str
    message: str
    file: str
    line: int = 0
    column: int = 0
    width: int = 1
    text: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()

    def render(self, *, color: bool = False) -> str:
        """Lay the problem out as rustc does, without a final newline."""
        red, blue, cyan, bold, plain = (
            (_RED, _BLUE, _CYAN, _BOLD, _PLAIN) if color else ("", "", "", "", "")
        )
        text, column = _excerpt(self.text, self.column)
        margin = " " * len(str(self.line or ""))
        lines = [f"{red}error[{self.code}]{plain}{bold}: {_printable(self.message)}{plain}"]
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        lines.append(f"{margin} {blue}-->{plain} {place}")
        if self.line:
            indent = "".join(c if c == "\t" else " " for c in text[: column - 1])
            width = max(1, min(self.width, len(text) - column + 1))
            lines += [
                f"{margin} {blue}|{plain}",
                f"{blue}{self.line} |{plain} {text}".rstrip(),
                f"{margin} {blue}|{plain} {indent}{red}{'^' * width}{plain}",
            ]
        lines += [f"{margin} {blue}={plain} {bold}note{plain}: {note}" for note in self.notes]
        if self.hint:
            lines.append(f"{margin} {blue}={plain} {cyan}hint{plain}: {_printable(self.hint)}")
        return "\n".join(lines)


class ConfigError(Exception):
    """The operator's file cannot be used; tell the caller, change nothing.

    Args:
        problems: every problem found, at least one, in the order of the files.
    """

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """Show the problems without colour."""
        return self.render()

    def render(self, color: bool = False) -> str:  # noqa: FBT001, FBT002 - the published signature
        """Lay out all problems, a blank line between them, and count them at the end."""
        shown = [problem.render(color=color) for problem in self.problems]
        files = list(dict.fromkeys(problem.file for problem in self.problems))
        count = f"{len(shown)} problem{'s' if len(shown) > 1 else ''}"
        shown.append(f"{count} in {', '.join(files)}")
        return "\n\n".join(shown)


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """The part of a long line around the column, and where the column is in it."""
    start = max(0, column - 1 - _LONGEST_LINE // 2) if len(line) > _LONGEST_LINE else 0
    text = line[start : start + _LONGEST_LINE]
    head = "…" if start else ""
    tail = "…" if start + _LONGEST_LINE < len(line) else ""
    return _printable(f"{head}{text}{tail}"), column - start + len(head)


def _printable(text: str) -> str:
    """Keep what a file says from steering the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
