"""What a device service writes down, one JSON line per record, in the order in which it happened.

The file is the devices' memory: state, remembered keys and fences are what replaying it yields. `at` is
monotonic seconds of the machine, comparable within one boot of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from drivers.contract import Epoch

__all__ = [
    "EXECUTED",
    "Begun",
    "Booted",
    "Claimed",
    "Ended",
    "LedgerError",
    "LedgerWriter",
    "Poked",
    "Record",
    "Refused",
    "read_ledger",
]

# done; found done; done and the answer withheld; done and then the driver crashed
EXECUTED = frozenset({"done", "no_change", "unknown", "crash_after"})


class Booted(Struct, frozen=True, kw_only=True, tag="booted", tag_field="t"):
    """The service came up; whatever was running then has been aborted."""

    at: float
    at_utc: float
    pid: int


class Claimed(Struct, frozen=True, kw_only=True, tag="claimed", tag_field="t"):
    """An incarnation raised the device's fence."""

    device: str
    epoch: Epoch
    at: float


class Begun(Struct, frozen=True, kw_only=True, tag="begun", tag_field="t", omit_defaults=True):
    """The device began a command; `id` is unique in the ledger."""

    id: int
    device: str
    unit: str
    step: int
    epoch: Epoch
    verb: str
    at: float
    params: dict[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return f"{self.unit}/{self.step}"


class Ended(Struct, frozen=True, kw_only=True, tag="ended", tag_field="t"):
    """A command came to its end.

    `effect`: it changed the device, or did what a noop does. `outcome`: one of `EXECUTED`, or known
    (the key was remembered), lie, lost, crash, cancelled, aborted, or the failure answered.
    """

    id: int
    device: str
    outcome: str
    effect: bool
    at: float


class Refused(Struct, frozen=True, kw_only=True, tag="refused", tag_field="t"):
    """The device refused a command or claim of an older epoch than its `fence`."""

    device: str
    unit: str
    step: int
    epoch: Epoch
    fence: Epoch
    verb: str
    at: float


class Poked(Struct, frozen=True, kw_only=True, tag="poked", tag_field="t"):
    """Somebody changed the device by hand."""

    device: str
    state: dict[str, object] | None
    at: float


Record = Booted | Claimed | Begun | Ended | Refused | Poked

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class LedgerError(Exception):
    """The ledger cannot be read or written; the service stops, so that nothing happens unrecorded."""


class LedgerWriter:
    """Appends records; what `flush` has written survives a SIGKILL of the service.

    Raises:
        LedgerError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            _cut_torn_line(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror}") from error
        self._waiting = bytearray()

    def append(self, record: Record) -> None:
        """Take a record; it is written at the next `flush`."""
        self._waiting += _encoder.encode(record)
        self._waiting += b"\n"

    def flush(self) -> None:
        """Write what was appended.

        Raises:
            LedgerError: the disk refused it.
        """
        while self._waiting:
            try:
                written = os.write(self._file, self._waiting)
            except OSError as error:
                raise LedgerError(f"{self._path}: {error.strerror}") from error
            del self._waiting[:written]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_ledger(path: Path) -> Iterator[Record]:
    """Yield the records from the oldest on; a line torn by a kill at the very end is left out.

    Raises:
        LedgerError: there is no such file, or a line in it is no record.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield _decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise LedgerError(f"{path}:{number}: {error}") from error
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from error


def _cut_torn_line(path: Path) -> None:
    """End the file at its last whole line."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
