"""From an operator's file to the checked infrastructure, or to every problem there is with it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from config.assembly import Assembly
from config.findings import Findings, Source
from config.model import Infrastructure
from config.reading import Reader
from config.settings import installed_drivers
from config.tables import Document

__all__ = ["load", "loads"]


def load(
    path: str | os.PathLike[str],
    *,
    drivers: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Infrastructure:
    """Load a file and what it includes.

    Args:
        path: the file.
        drivers: names of the drivers to accept; by default those installed.
        environment: what `${NAME}` is replaced from; by default the process's own.

    Raises:
        ConfigError: something is wrong; it holds every problem found.
    """
    findings = Findings()
    reader = Reader(os.environ if environment is None else environment, findings)
    return _assembled(reader.file(os.fspath(path)), drivers, findings)


def loads(
    text: str,
    name: str = "<text>",
    *,
    drivers: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Infrastructure:
    """Load a text as if it stood in the file `name`; the other arguments are those of `load`.

    Raises:
        ConfigError: something is wrong; it holds every problem found.
    """
    findings = Findings()
    reader = Reader(os.environ if environment is None else environment, findings)
    return _assembled(reader.text(text, name), drivers, findings)


def _assembled(
    documents: Iterable[tuple[Source, Document]],
    drivers: Collection[str] | None,
    findings: Findings,
) -> Infrastructure:
    assembly = Assembly(installed_drivers() if drivers is None else drivers, findings)
    for source, document in documents:
        assembly.add(source, document)
    infrastructure = assembly.finished()
    findings.raise_if_any()
    return infrastructure
