"""The OS processes around this node: what `serve` and the launcher have written into the run folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestration.records import NodeRecord

__all__ = ["known_processes"]

_FILES = ("serve.json", "launcher.json")


class _Entry(Struct):
    """One process; what else is written about it is of no interest here."""

    pid: int | None = None
    restarts: int = 0


_decode = msgspec.json.Decoder(dict[str, _Entry]).decode


def known_processes(run_dir: Path) -> list[NodeRecord]:
    """The processes that are no automation nodes, in order of start; a missing file names none."""
    entries: dict[str, _Entry] = {}
    for name in _FILES:
        try:
            entries.update(_decode((run_dir / name).read_bytes()))
        except (OSError, msgspec.MsgspecError):
            continue  # not written yet; the next look finds it
    return [
        NodeRecord(
            name=name,
            kind=name,
            pid=entry.pid,
            state="up" if entry.pid is not None and _is_alive(entry.pid) else "down",
            restarts=entry.restarts,
        )
        for name, entry in entries.items()
        if name != "root"
    ]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
