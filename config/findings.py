"""Problems while they are being collected: each at a path of a source, placed in the text only at the end."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from config.locate import Entry, Path, Span, locate
from config.problems import Code, ConfigError, ConfigProblem

__all__ = ["Findings", "Source", "Where", "did_you_mean"]


@dataclass(slots=True, eq=False)
class Source:
    """One file: its text as written, the part of it that parses, and what that says.

    `renames` maps a path of `data` whose last key was misspelt to that key as written; `stand_ins` maps
    a key that `clean` holds in place of one that was there before to that key.
    """

    name: str
    text: str = ""
    clean: str = ""  # `text` with the statements blanked that are no TOML; offsets are the same
    data: dict[str, object] = field(default_factory=dict)
    renames: dict[Path, str] = field(default_factory=dict)
    stand_ins: dict[str, str] = field(default_factory=dict)
    damaged: bool = False  # something was blanked, so what is missing may only be unreadable

    def written(self, path: Path) -> Path:
        """Turn a path of `data` into the path of the text."""
        if not self.renames:
            return path
        return tuple(self.renames.get(path[: i + 1], part) for i, part in enumerate(path))


@dataclass(slots=True, frozen=True)
class Where:
    """A place: the key or the value at `path`, or a `span` of the text where nothing parses."""

    source: Source
    path: Path = ()
    part: Literal["key", "value", "file"] = "key"
    span: Span | None = None


@dataclass(slots=True, frozen=True)
class _Finding:
    code: Code
    message: str
    where: Where
    hint: str
    first: Where | None  # of two things that clash, the one that was there before


class Findings:
    """What has been found so far."""

    def __init__(self) -> None:
        self._found: list[_Finding] = []
        self._known: set[tuple[Code, Where, str]] = set()
        self._sources: list[Source] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def read(self, source: Source) -> None:
        """Note that `source` is read now: problems are shown in this order."""
        self._sources.append(source)

    def add(
        self, code: Code, message: str, where: Where, hint: str = "", first: Where | None = None
    ) -> None:
        """Note a problem; `first` is the earlier place that it clashes with.

        A table under a range is visited once per name, so the same advice at the same place counts once.
        """
        known = (code, where, hint)
        if known in self._known:
            return
        self._known.add(known)
        for stand_in, name in where.source.stand_ins.items():
            message = message.replace(stand_in, name)
        self._found.append(_Finding(code, message, where, hint, first))

    def raise_if_any(self) -> None:
        """Raise what was found.

        Raises:
            ConfigError: there is at least one problem.
        """
        if self._found:
            raise ConfigError(self._problems())

    def _problems(self) -> tuple[ConfigProblem, ...]:
        wanted: dict[Source, set[Path]] = defaultdict(set)
        for finding in self._found:
            for where in filter(None, (finding.where, finding.first)):
                path = where.source.written(where.path)
                wanted[where.source].update(path[:length] for length in range(1, len(path) + 1))
        places = {source: locate(source.clean, paths) for source, paths in wanted.items()}
        order = {source: number for number, source in enumerate(self._sources)}
        placed = [(f, _span(f.where, places[f.where.source])) for f in self._found]
        placed.sort(key=lambda item: (order.get(item[0].where.source, -1), item[1] or (-1, -1)))
        return tuple(_problem(finding, span, places) for finding, span in placed)


def did_you_mean(word: str, known: Iterable[str], quote: str = "`") -> str:
    """Hint at the likeliest of the known words; "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {quote}{near[0]}{quote}?" if near else ""


def _span(where: Where, places: dict[Path, Entry]) -> Span | None:
    if where.span is not None or where.part == "file":
        return where.span
    path = where.source.written(where.path)
    for length in range(len(path), 0, -1):  # what came out of nowhere is shown at its parent
        entry = places.get(path[:length])
        if entry is not None:
            return entry.value if where.part == "value" and length == len(path) else entry.key
    return None


def _problem(
    finding: _Finding, span: Span | None, places: dict[Source, dict[Path, Entry]]
) -> ConfigProblem:
    source = finding.where.source
    notes: tuple[str, ...] = ()
    if finding.first is not None:
        other = finding.first.source
        before = _span(finding.first, places[other])
        if before is not None:
            line, column, _, _ = _place(other.text, before)
            notes = (f"first at {other.name}:{line}:{column}",)
    line, column, width, text = _place(source.text, span) if span else (0, 0, 1, "")
    return ConfigProblem(
        code=finding.code.value,
        message=finding.message,
        file=source.name,
        line=line,
        column=column,
        width=width,
        text=text,
        hint=finding.hint,
        notes=notes,
    )


def _place(text: str, span: Span) -> tuple[int, int, int, str]:
    start, end = span
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    if line_end < 0:
        line_end = len(text)
    width = max(1, min(end, line_end) - start)
    return text.count("\n", 0, start) + 1, start - line_start + 1, width, text[line_start:line_end]
