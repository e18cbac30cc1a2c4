"""The files of one infrastructure: the first one and what it includes, each read, parsed and converted."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from config.environment import substitute
from config.findings import Findings, Source, Where
from config.problems import Code
from config.quantities import decode_quantity
from config.shape import BROKEN, mend
from config.syntax import parse
from config.tables import Document

__all__ = ["Reader"]


class Reader:
    """Reads files depth first; a file that is reached twice is read once.

    Args:
        environment: what `${NAME}` is replaced from.
        findings: where problems go.
    """

    def __init__(self, environment: Mapping[str, str], findings: Findings) -> None:
        self._environment = environment
        self._findings = findings
        self._read: set[Path] = set()

    def file(self, name: str) -> Iterator[tuple[Source, Document]]:
        """Read the file `name` and all it includes, in this order."""
        source = Source(name)
        self._findings.read(source)
        yield from self._file(source, Where(source, part="file"), ())

    def text(self, text: str, name: str) -> Iterator[tuple[Source, Document]]:
        """Take `text` for the content of the file `name`; includes are relative to its folder."""
        source = Source(name, text.removeprefix("\ufeff").replace("\r\n", "\n"))
        self._findings.read(source)
        self._read.add(_resolved(name))
        yield from self._document(source, (_resolved(name),))

    def _file(
        self, source: Source, asked: Where, above: tuple[Path, ...]
    ) -> Iterator[tuple[Source, Document]]:
        path = _resolved(source.name)
        self._read.add(path)
        try:
            source.text = _decoded(Path(source.name).read_bytes())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._findings.add(Code.UNREADABLE, f"cannot read {source.name}: {reason}", asked)
            return
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._findings.add(
                Code.UNREADABLE,
                f"{source.name} is not UTF-8: byte 0x{error.object[error.start]:02x} in line {line}",
                asked,
                "save it as UTF-8",
            )
            return
        yield from self._document(source, (*above, path))

    def _document(
        self, source: Source, above: tuple[Path, ...]
    ) -> Iterator[tuple[Source, Document]]:
        parse(source, self._findings)
        substitute(source, self._environment, self._findings)
        document = _converted(source, self._findings)
        yield source, document
        for number, pattern in enumerate(document.include):
            if pattern != BROKEN:
                yield from self._include(
                    pattern, Where(source, ("include", number), "value"), above
                )

    def _include(
        self, pattern: str, where: Where, above: tuple[Path, ...]
    ) -> Iterator[tuple[Source, Document]]:
        folder = os.path.dirname(where.source.name)  # noqa: PTH120 - Path would drop a leading "./"
        found = sorted(
            name
            for name in glob.glob(pattern, root_dir=folder or None, recursive=True)  # noqa: PTH207
            if not Path(folder, name).is_dir()
        )
        if not found:
            hint = f"paths are relative to the folder of {where.source.name}"
            self._findings.add(Code.NO_SUCH_FILE, f'no file matches "{pattern}"', where, hint)
        for name in found:
            path = _resolved(os.path.join(folder, name))  # noqa: PTH118 - as above
            if path in above:
                self._cycle(path, where, above)
            elif path not in self._read:
                source = Source(os.path.join(folder, name))  # noqa: PTH118 - as above
                self._findings.read(source)
                yield from self._file(source, where, above)

    def _cycle(self, path: Path, where: Where, above: tuple[Path, ...]) -> None:
        ring = " -> ".join(p.name for p in (*above[above.index(path) :], path))
        hint = "leave this include out, or narrow the pattern"
        self._findings.add(Code.INCLUDE_CYCLE, f"a file includes itself: {ring}", where, hint)


def _converted(source: Source, findings: Findings) -> Document:
    """Convert the data; only when that fails, look for everything that is wrong with it."""
    try:
        return msgspec.convert(source.data, Document, dec_hook=decode_quantity)
    except msgspec.ValidationError:
        mend(source, findings)
        return msgspec.convert(source.data, Document, dec_hook=decode_quantity)


def _decoded(content: bytes) -> str:
    return content.decode("utf-8-sig").replace("\r\n", "\n")


def _resolved(name: str) -> Path:
    return Path(name).resolve()
