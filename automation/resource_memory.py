"""What a pod remembers of one resource across the incarnations of its process.

The pod makes one `ResourceMemory` per definition; the resource process works on it and is the only one to
change it while it lives, apart from the mailbox and the wishes (`retiring`, `redefinition`) that the pod
leaves there. It is lost with the pod: orchestration's journal has what must not be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum

import msgspec

from automation.mailbox import Mailbox
from drivers.contract import DeviceRef
from otp import Pid
from rpc.messages import CommandRecord, Crashed, Epoch, ResourceDefinition, Unit

__all__ = ["RECORDER_LENGTH", "ResourceMemory", "State", "device_ref"]

RECORDER_LENGTH = 32


class State(Enum):
    """Where in its life a resource process is."""

    INITIALISED = "initialised"
    SYNCHRONISING = "synchronising"
    READY = "ready"
    EXECUTING = "executing"
    SUSPECT = "suspect"
    SET_ASIDE = "set_aside"
    STOPPED = "stopped"
    CRASHED = "crashed"


def device_ref(definition: ResourceDefinition) -> DeviceRef:
    """Name the device behind `definition` the way drivers want it."""
    name = definition.path.rpartition("/")[2]
    return DeviceRef(definition.path, name, definition.kind, definition.config)


class ResourceMemory:
    """One resource of the pod: its definition, its mailbox, and what is known of its device."""

    __slots__ = (
        "crashed_by",
        "definition",
        "desired",
        "doubt",
        "epoch",
        "exists",
        "handed_back",
        "incarnation",
        "is_alive",
        "job",
        "mailbox",
        "observed",
        "pid",
        "recorder",
        "redefinition",
        "ref",
        "retiring",
        "set_aside",
        "state",
        "sync_failures",
    )

    def __init__(self, definition: ResourceDefinition, mailbox_capacity: int) -> None:
        self.mailbox = Mailbox(mailbox_capacity)
        self.incarnation = 0
        self.epoch: Epoch = ()
        self.pid: Pid | None = None
        self.is_alive = False  # a process works on it, or died without saying so
        self.state = State.INITIALISED
        self.job: asyncio.Task[object] | None = None  # the one driver call in flight, I2
        self.retiring = False
        self.redefinition: ResourceDefinition | None = None
        self.recorder: deque[CommandRecord] | None = None
        self.crashed_by: frozenset[str] = frozenset()  # units, since the last success
        self.set_aside = False
        self.handed_back: tuple[str, ...] = ()
        self.sync_failures = 0
        self.doubt: tuple[Unit, ...] = definition.doubt
        self.desired = definition.desired  # None: whatever is there is right
        self.observed: dict[str, object] = {}
        self.exists = False
        self._define(definition)

    @property
    def path(self) -> str:
        """The resource's path, region/zone/pod/name."""
        return self.definition.path

    @property
    def is_urgent(self) -> bool:
        """Whether work waits for it: such resources are synchronised first."""
        was_queued = self.definition.queued and self.incarnation <= 1  # when it was defined
        return was_queued or bool(self.doubt)

    def begin(self, pod_epoch: Epoch) -> None:
        """Begin an incarnation: the next epoch, and the newest definition."""
        self.incarnation += 1
        self.epoch = (*pod_epoch, self.incarnation)
        self.sync_failures = 0
        wish, self.redefinition = self.redefinition, None
        if wish is not None:
            self.desired = self.latest_desired(wish)
            self._define(wish)
            self.doubt = (*self.doubt, *self.strange_to_it(wish.doubt))
            self.crashed_by = frozenset()
            self.set_aside = False

    def strange_to_it(self, doubt: tuple[Unit, ...]) -> tuple[Unit, ...]:
        """Those of `doubt` that are neither in the mailbox nor in doubt here already."""
        known = {*self.mailbox.ids(), *(unit.id for unit in self.doubt)}
        return tuple(unit for unit in doubt if unit.id not in known)

    def latest_desired(self, wish: ResourceDefinition) -> dict[str, object] | None:
        """What `wish` is to be: what is known here is later, but says nothing of another device."""
        mine = self.definition
        is_same = (mine.kind, mine.driver, mine.connect) == (wish.kind, wish.driver, wish.connect)
        return self.desired if is_same else wish.desired

    def differs_from(self, definition: ResourceDefinition) -> bool:
        """Whether `definition` asks for another device or other settings than the present one."""
        mine = self.redefinition or self.definition
        return (mine.kind, mine.driver, mine.connect, mine.config) != (
            definition.kind,
            definition.driver,
            definition.connect,
            definition.config,
        )

    def record(self, entry: CommandRecord) -> None:
        """Note a command in the flight recorder."""
        if self.recorder is None:
            self.recorder = deque(maxlen=RECORDER_LENGTH)
        self.recorder.append(entry)

    def see(self, state: dict[str, object], *, exists: bool) -> None:
        """Note what the device looks like."""
        self.observed = state if exists else {}
        self.exists = exists

    def hold(self) -> None:
        """Let what was seen last be the state the device is to be in from now on."""
        self.desired = self.observed

    def end(self, reason: str, *, is_crash: bool, set_aside_after: int) -> Crashed | None:
        """The incarnation has ended: flush the mailbox, put the unit in hand in doubt.

        A crash blames the unit in hand; crashed by `set_aside_after` different units without a success in
        between, the resource itself is to blame and set aside. Answers what to report, None if the process
        held nothing and ended in good order. Ending twice is ending once.
        """
        if not self.is_alive:
            return None
        self.is_alive = False
        self.pid = None
        self.state = State.CRASHED if is_crash else State.STOPPED
        if self.job is not None:
            self.job.cancel()
        hand, self.mailbox.hand = self.mailbox.hand, None
        flushed = tuple(unit.id for unit in self.mailbox.flush())
        if hand is not None:
            self.doubt = (*self.doubt, msgspec.structs.replace(hand.unit, first=hand.completed))
            if is_crash:
                self._blame(hand.unit.id, set_aside_after)
        if hand is None and not flushed and not is_crash:
            return None
        return Crashed(
            self.path,
            self.epoch,
            None if hand is None else hand.unit.id,
            0 if hand is None else hand.unit.attempt,
            0 if hand is None else hand.completed,
            reason,
            flushed,
            tuple(self.recorder or ()),
            culprit=hand is not None and is_crash,
        )

    def _blame(self, unit: str, set_aside_after: int) -> None:
        self.crashed_by |= {unit}
        self.set_aside = len(self.crashed_by) >= set_aside_after

    def _define(self, definition: ResourceDefinition) -> None:
        self.definition = definition
        self.ref = device_ref(definition)
