"""From text to TOML data; where it is no TOML, everything wrong with it in one run.

tomli stops at the first mistake. Here the statement it is in gets blanked and the rest is read again, so
that later mistakes, and those in the meaning, are reported along with it. A table that is declared twice
is kept under a stand-in name of the same length, so that its content is checked too. Offsets never move.
"""

from __future__ import annotations

import ast
import re

import tomli

from config.findings import Findings, Source, Where
from config.locate import Path, Span, key_at
from config.problems import Code

__all__ = ["parse"]

_MOST_MISTAKES = 20
_DEEPEST = 64
_SHORTEST_STAND_IN = 4
_STATEMENT = re.compile(r"""^[ \t]*(?:\[|["'\w-][^=\n]*=)""", re.MULTILINE)
_NEXT_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)
_TWICE = re.compile(r"Cannot declare (\(.*\)) twice|Cannot redefine namespace (\(.*\))")
_WORD = re.compile(r"""\{[^}\n]*\}|[^\s,\]}#"'=]+""")
_CLOSED = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")

_TEXTS = {
    "Illegal character '\\n'": ("the string does not end on its line", "close it with a quote"),
    "Unterminated string": ("the string never ends", "close it with the quotes it began with"),
    "Unclosed array": ("the array is not closed", "a comma or `]` is missing"),
    "Unclosed inline table": ("the inline table is not closed", "a comma or `}` is missing"),
    "Invalid value": ("this is no value", "text needs quotes; true and false are lower case"),
    "Expected '=' after a key in a key/value pair": ("`=` is missing after the key", ""),
    "Expected ']' at the end of a table declaration": (
        "`]` is missing after the table's name",
        "names with braces, dots or stars need quotes",
    ),
    "Expected newline or end of document after a statement": (
        "something follows the value",
        "one `key = value` on a line; text needs quotes",
    ),
    "Invalid initial character for a key part": (
        "no key can start like this",
        "names with braces, dots or stars need quotes",
    ),
    "Invalid statement": ("this is neither `key = value` nor a `[table]`", ""),
}


def parse(source: Source, findings: Findings) -> None:
    """Fill in `source.data` and `source.clean` from `source.text`, adding what is wrong to `findings`."""
    source.clean = source.text
    for _ in range(_MOST_MISTAKES):
        try:
            source.data = tomli.loads(source.clean)
        except tomli.TOMLDecodeError as error:
            source.clean = _report(source, error, findings)
            continue
        except RecursionError:
            break
        if not _too_deep(source.data):
            return
        break
    else:
        findings.add(Code.SYNTAX, "more mistakes follow", Where(source, part="file"))
        _give_up(source)
        return
    hint = f"at most {_DEEPEST} levels"
    where = Where(source, part="file")
    findings.add(Code.SYNTAX, "arrays or tables are nested too deep", where, hint)
    _give_up(source)


def _give_up(source: Source) -> None:
    source.data, source.clean, source.damaged = {}, "", True


def _too_deep(data: dict[str, object]) -> bool:
    """Whether there are more than `_DEEPEST` levels, found without recursion."""
    level: list[object] = [data]
    for _ in range(_DEEPEST):
        if not level:
            return False
        inner = (
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        )
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
    return bool(level)


def _report(source: Source, error: tomli.TOMLDecodeError, findings: Findings) -> str:
    """Add the problem and answer the text without it."""
    text, at = source.clean, min(error.pos, len(source.clean))
    declared = _TWICE.match(error.msg)
    if declared:
        path = ast.literal_eval(declared.group(1) or declared.group(2))
        return _report_twice(source, path, at, findings)
    if error.msg == "Cannot overwrite a value":
        return _report_overwritten(source, at, findings)
    source.damaged = True
    blank = _statement(text, at, error.msg)
    if error.msg == "Unterminated string":
        at = max(text.rfind('"""', 0, at), text.rfind("'''", 0, at), blank[0])
        blank = (text.rfind("\n", 0, at) + 1, len(text))
    elif error.msg == "Unclosed array" and blank[1] <= at:
        at = max(text.find("[", blank[0], at), blank[0])
    span = _marked(text, at, error.msg)
    message, hint = _TEXTS.get(error.msg, (error.msg[:1].lower() + error.msg[1:], ""))
    findings.add(Code.SYNTAX, message, Where(source, span=span), hint)
    return _blanked(text, blank)


def _report_twice(source: Source, path: Path, at: int, findings: Findings) -> str:
    line = source.clean.rfind("\n", 0, at) + 1
    name, span = _last_key(source.clean, line, at)
    findings.add(
        Code.DUPLICATE,
        f"`{name}` is declared twice",
        Where(source, span=span),
        "keep one table, or give the second another name",
        Where(source, path),
    )
    return _renamed(source, name, span) or _blanked(
        source.clean, _statement(source.clean, line, "")
    )


def _renamed(source: Source, name: str, span: Span) -> str | None:
    """Give the key at `span` a stand-in; None where it is too short for one that is surely free."""
    start, end = span
    for letter in "zyxwvutsrq":
        stand_in = letter * (end - start)
        if len(stand_in) >= _SHORTEST_STAND_IN and stand_in not in source.clean:
            source.stand_ins[stand_in] = name
            return source.clean[:start] + stand_in + source.clean[end:]
    return None


def _report_overwritten(source: Source, at: int, findings: Findings) -> str:
    """The value ends at `at`; its key starts the statement there."""
    text = source.clean
    blank = _statement(text, max(at - 1, 0), "")
    name, span = _last_key(text, blank[0], at)
    findings.add(
        Code.DUPLICATE, f"`{name}` is set twice", Where(source, span=span), "keep one of them"
    )
    return _blanked(text, blank)


def _marked(text: str, at: int, message: str) -> Span:
    """What the caret marks: the word that is wrong, not the place where the parser gave up."""
    line, line_end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    written = len(text[line:line_end].rstrip())
    if message == "Illegal character '\\n'":
        open_part = _CLOSED.sub(lambda found: " " * len(found.group()), text[line:line_end])
        quotes = [open_part.find(quote) for quote in "\"'" if quote in open_part]
        return (line + min(quotes) if quotes else line), line + written
    word = _WORD.match(text, at)
    if word:
        return word.span()
    if at >= line + written > line:  # past the end: the last word
        last = text[line : line + written].rsplit(maxsplit=1)[-1]
        return line + written - len(last), line + written
    return at, at + 1


def _last_key(text: str, start: int, end: int) -> tuple[str, Span]:
    while start < end and text[start] in " \t[":
        start += 1
    keys = key_at(text, start)
    return keys[-1] if keys else (text[start:end], (start, end))


def _statement(text: str, at: int, message: str) -> Span:
    """Where the statement around `at` starts and ends; of a header, the whole table."""
    line = text.rfind("\n", 0, at) + 1
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    starts = [found.start() for found in _STATEMENT.finditer(text, 0, line_end)]
    start = starts[-1] if starts else line
    # An array that is not closed is noticed at the next statement, which is sound.
    noticed_late = message == "Unclosed array" and not text[line:at].strip()
    if noticed_late and start == line and len(starts) > 1:
        return starts[-2], line
    if text[start:line_end].lstrip().startswith("["):
        following = _NEXT_HEADER.search(text, line_end)
        return start, following.start() if following else len(text)
    return start, line_end


def _blanked(text: str, span: Span) -> str:
    start, end = span
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
