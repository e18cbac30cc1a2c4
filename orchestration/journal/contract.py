"""The journal contract: what the orchestration tier relies on for everything it must not forget.

Writes come in two kinds. What a client asked for (`accept`, a new revision, an epoch) either is durable
when it is answered or raises and has left nothing behind. What has already happened or been decided
(`record`) cannot be refused: it is kept, in order, and tried until it is durable; only then is its
`done` called, and only then may anybody act on it or acknowledge it.

Reads see committed rows alone. One process owns a journal at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Self

from msgspec import Struct

from orchestration.records import EventRecord, UnitRecord, UnitSpec, UnitState

__all__ = [
    "Acceptance",
    "Accepted",
    "Changes",
    "Committed",
    "EpochTakenError",
    "IdempotencyError",
    "Journal",
    "JournalError",
    "JournalFullError",
    "JournalIOError",
    "JournalInUseError",
    "JournalVersionError",
    "OpenUnit",
    "Replay",
    "ResourceRow",
    "RevisionError",
    "UnitNow",
]

EventRow = tuple[float, str, str, str, str, str]  # at_utc, kind, subject, resource, epoch, detail
UnitRow = tuple[int, str, int, int, int, str, str, str, float, float | None]


class JournalError(Exception):
    """Base of every error of a journal."""


class JournalFullError(JournalError):
    """No space left: nothing of the request was kept. Told to the caller, who may try again."""


class JournalIOError(JournalError):
    """The storage failed: nothing of the request was kept. Told to the caller."""


class JournalInUseError(JournalError):
    """Another process owns this journal. The node stops."""


class JournalVersionError(JournalError):
    """The file is newer than this program, or its migrations were changed. The node stops."""


class IdempotencyError(JournalError):
    """A key was used before with another body. Told to the caller.

    Args:
        index: position of the unit in the request.
        key: the idempotency key.
    """

    def __init__(self, index: int, key: str) -> None:
        super().__init__(f"key {key!r} was used for different work")
        self.index = index
        self.key = key


class RevisionError(JournalError):
    """The infrastructure has moved on. The caller checks its request against the new revision.

    Args:
        current: the revision that is in force.
    """

    def __init__(self, current: int) -> None:
        super().__init__(f"the infrastructure is at revision {current}")
        self.current = current


class EpochTakenError(JournalError):
    """Somebody else claimed the root epoch. The caller reads it again.

    Args:
        current: the epoch in force.
    """

    def __init__(self, current: int) -> None:
        super().__init__(f"the root epoch is {current}")
        self.current = current


class Accepted(Struct, frozen=True):
    """One unit as `accept` left it; `replayed`: its key was known, so nothing was added."""

    seq: int
    state: UnitState
    replayed: bool = False


class Acceptance(Struct, frozen=True):
    """What one `accept` brought into the journal, told to the dispatcher in order of acceptance."""

    specs: Sequence[UnitSpec]
    answers: Sequence[Accepted]
    on_demand: Sequence[str]
    at_utc: float


class OpenUnit(Struct, frozen=True):
    """An unfinished unit, as the dispatcher is rebuilt from it."""

    seq: int
    spec: UnitSpec
    state: UnitState
    completed: int
    attempt: int
    crashes: int
    epoch: tuple[int, ...]
    reason: str
    code: str
    accepted_utc: float
    next_attempt_utc: float | None
    cancel_requested: bool = False
    pod_losses: int = 0


class UnitNow(Struct, frozen=True):
    """A unit and the state it is in."""

    id: str
    state: str


class ResourceRow(Struct, frozen=True):
    """What is remembered of a resource between two lives of the orchestration node."""

    path: str
    on_demand: bool
    epoch: tuple[int, ...]
    desired: dict[str, object] | None
    former_epoch: tuple[int, ...]  # incarnations up to this one were of another device


class Changes:
    """Rows that become durable together: transitions with their events, and what they imply.

    A unit that changes twice in one of these has one row (the last) and both events.
    """

    __slots__ = (
        "cancels",
        "dropped",
        "events",
        "pod_losses",
        "reporters",
        "resources",
        "units",
    )

    def __init__(self) -> None:
        self.cancels: list[int] = []  # numbers of units somebody wants cancelled
        self.pod_losses: dict[int, int] = {}  # by number of the unit
        self.units: dict[int, UnitRow] = {}
        self.events: list[EventRow] = []
        self.resources: dict[str, tuple[str, int, str, str | None, str]] = {}
        self.reporters: dict[str, tuple[str, str, int]] = {}
        self.dropped: list[str] = []  # resources that are gone for good

    def __bool__(self) -> bool:
        return bool(
            self.units
            or self.events
            or self.resources
            or self.reporters
            or self.dropped
            or self.cancels
            or self.pod_losses
        )


class Committed(Struct, frozen=True):
    """Events that have just become durable: `rows[i]` has number `first_seq + i`."""

    first_seq: int
    rows: Sequence[EventRow]


class Replay(ABC):
    """The journal as it is at one moment, on a connection of its own. Use it as a context manager, on any thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def events(self) -> Iterator[list[EventRecord]]:
        """The whole event log in order, in batches."""

    @abstractmethod
    def units(self) -> Iterator[UnitNow]:
        """Every unit, in order of acceptance."""

    @abstractmethod
    def close(self) -> None:
        """Let go of that moment: until then the file cannot be tidied behind it."""


class Journal(ABC):
    """The durable record. Every method but the reads of `verify` is called on the loop's thread."""

    @abstractmethod
    def open(
        self,
        accepted: Callable[[Acceptance], None],
        committed: Callable[[Committed], None],
    ) -> None:
        """Bring the schema up to date and take ownership, inside a running loop.

        Args:
            accepted: called in order of acceptance, before the answer of that `accept` is out.
            committed: called with every batch of events, in order.

        Raises:
            JournalInUseError: another process owns it.
            JournalVersionError: it was written by a newer program.
        """

    @abstractmethod
    async def close(self) -> None:
        """Commit what was recorded and let go; closing twice is closing once."""

    @property
    @abstractmethod
    def tag(self) -> str:
        """A short random name given at creation; unit ids begin with it."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """Why nothing can be written just now, "" if all is well."""

    def unit_id(self, seq: int) -> str:
        """Name the unit with number `seq`."""
        return f"{self.tag}-{seq}"

    def unit_seq(self, unit_id: str) -> int | None:
        """Give the number in `unit_id`, None if it is not an id of this journal."""
        tag, _, number = unit_id.rpartition("-")
        return int(number) if tag == self.tag and number.isascii() and number.isdigit() else None

    @abstractmethod
    def accept(
        self, specs: Sequence[UnitSpec], *, on_demand: Sequence[str], revision: int, at_utc: float
    ) -> Awaitable[list[Accepted]]:
        """Keep all of `specs`, or none; answers in their order once they are durable.

        Args:
            specs: checked against the infrastructure of `revision`.
            on_demand: resources that come into being with them.
            revision: refused if it is not the one in force.
            at_utc: the time of acceptance.

        Raises:
            IdempotencyError: a key was used with another body.
            RevisionError: the infrastructure has changed since they were checked.
            JournalFullError: no space left.
            JournalIOError: the storage failed.
        """

    @abstractmethod
    def record(self, changes: Changes, done: Callable[[], None] | None = None) -> None:
        """Keep `changes` whatever happens, after all earlier ones; call `done` once durable."""

    @abstractmethod
    def claim_root_epoch(self, expected: int, at_utc: float) -> Awaitable[int]:
        """Raise the root epoch from `expected` by one.

        Raises:
            EpochTakenError: it is not `expected`.
            JournalFullError: no space left.
            JournalIOError: the storage failed.
        """

    @abstractmethod
    def save_infrastructure(
        self, body: bytes, *, expected: int, changes: Changes, at_utc: float
    ) -> Awaitable[int]:
        """Make `body` (JSON) revision `expected + 1`, together with `changes`.

        Raises:
            RevisionError: the revision in force is not `expected`.
            JournalFullError: no space left.
            JournalIOError: the storage failed.
        """

    @abstractmethod
    def root_epoch(self) -> int:
        """The root epoch in force, 0 if none was ever claimed."""

    @abstractmethod
    def infrastructure(self) -> tuple[int, bytes]:
        """The revision in force and its JSON; (0, b"") before the first."""

    @abstractmethod
    def unit(self, seq: int) -> UnitRecord | None:
        """One unit, None if there is none."""

    @abstractmethod
    def units(
        self, *, state: UnitState | None, resource: str | None, after: int, limit: int
    ) -> list[UnitRecord]:
        """Units in order of acceptance, those after number `after`; `resource` is a path or a prefix of one."""

    @abstractmethod
    def open_units(self) -> Iterator[OpenUnit]:
        """Every unfinished unit, in order of acceptance."""

    @abstractmethod
    def resources(self) -> Iterator[ResourceRow]:
        """Every resource something is remembered of, by path."""

    @abstractmethod
    def reporters(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """Per node: the epoch and number of the last report that is in the journal."""

    @abstractmethod
    def counts(self) -> dict[UnitState, int]:
        """Units by state."""

    @abstractmethod
    def events(
        self,
        *,
        after: int,
        limit: int,
        subject: str | None = None,
        resource: str | None = None,
        kind: str | None = None,
    ) -> list[EventRecord]:
        """Events after number `after`; `kind` ending in "." stands for all that begin so."""

    @abstractmethod
    def last_event(self) -> int:
        """The number of the newest event, 0 if there is none."""

    @abstractmethod
    def replay(self, batch: int = 5000) -> Replay:
        """Everything as it is now, in batches of `batch`; may be called, and read, on any thread."""
