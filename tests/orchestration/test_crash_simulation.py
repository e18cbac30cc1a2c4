"""Whole lives of a zone against a real journal file and pods that crash: nothing lost, nothing done twice.

Everything is deterministic from a seed. The orchestration side is rebuilt from the file after each of its
crashes, which may come before any commit and between a commit and the messages that follow from it.
"""

import random

import pytest

from config import Infrastructure, Pod, Region, Resource, Zone
from orchestration.figures import Figures
from orchestration.journal.contract import Changes
from orchestration.journal.reader import SqliteReader
from orchestration.journal.store import Accept, Record, SaveInfrastructure, SqliteStore
from orchestration.lane import QueuedUnit
from orchestration.records import TERMINAL, CommandSpec, OnFailure, UnitSpec, UnitState
from orchestration.verify import Present, verify
from orchestration.view import View
from orchestration.zone_book import ZoneBook
from rpc.messages import (
    Ack,
    Cancel,
    Crashed,
    Define,
    Dispatch,
    Dropped,
    Fault,
    Finished,
    Inventory,
    Progress,
    Ready,
    Report,
    ResourceInventory,
    Settled,
    Started,
)

PATHS = [f"eu/a/{pod}/vm-{n}" for pod in ("r1", "r2") for n in (1, 2)]
INFRASTRUCTURE = Infrastructure(
    name="simulated",
    regions=(
        Region(
            name="eu",
            zones=(
                Zone(
                    name="a",
                    pods=tuple(
                        Pod(
                            name=pod,
                            mailbox=3,
                            quarantine_after=2,
                            resources=tuple(
                                Resource(name=f"vm-{n}", kind="vm", driver="simulated")
                                for n in (1, 2)
                            ),
                        )
                        for pod in ("r1", "r2")
                    ),
                ),
            ),
        ),
    ),
)


class Device:
    """What outlives everything: which commands were applied, in which order."""

    def __init__(self):
        self.applied = []
        self.fence = ()

    def apply(self, epoch, unit, index):
        assert epoch >= self.fence, f"{epoch} acts after {self.fence}"
        assert (unit.id, index) not in self.applied, f"{unit.id}/{index} is applied twice"
        self.applied.append((unit.id, index))

    def settled(self, unit):
        return sum((unit.id, index) in self.applied for index in range(len(unit.commands)))


class SimulatedPod:
    """A pod that speaks the messages of the real one; its memory goes with each crash."""

    def __init__(self, path, devices, rng):
        self.path = path
        self.devices = devices
        self.rng = rng
        self.incarnation = 0
        self.restart()

    def restart(self):
        self.incarnation += 1
        self.epoch = (1, 1, self.incarnation)
        self.resources = {}
        self.unacked = {}
        self.last = 0
        self.revision = 0
        self.disconnect()

    def disconnect(self):
        self.connected = False
        self.up = []
        self.down = []

    def connect(self):
        self.connected = True
        inventory = Inventory(
            tuple(
                ResourceInventory(path, each["epoch"], "ready", self.held(each))
                for path, each in self.resources.items()
            ),
            self.last,
            self.revision,
        )
        self.up = [inventory, *(Report(seq, 0.0, body) for seq, body in self.unacked.items())]
        self.down = []

    @staticmethod
    def held(resource):
        hand = [resource["hand"].id] if resource["hand"] else []
        return tuple(hand + [unit.id for unit in resource["mailbox"]])

    def report(self, body):
        self.last += 1
        self.unacked[self.last] = body
        if self.connected:
            self.up.append(Report(self.last, 0.0, body))

    def take(self, message):
        match message:
            case Ack(seq):
                self.unacked = {n: body for n, body in self.unacked.items() if n > seq}
            case Define(revision, resources, _):
                self.revision = revision
                for definition in resources:
                    if definition.path not in self.resources:
                        self.resources[definition.path] = {"incarnation": 0}
                        self.incarnate(definition.path, definition.doubt)
            case Dispatch(path, epoch, unit):
                self.dispatched(path, epoch, unit)
            case Cancel(path, unit):
                self.cancel(path, unit)

    def incarnate(self, path, doubt):
        resource = self.resources[path]
        resource["incarnation"] += 1
        resource["epoch"] = (*self.epoch, resource["incarnation"])
        resource["mailbox"], resource["hand"], resource["done"] = [], None, 0
        device = self.devices[path]
        device.fence = max(device.fence, resource["epoch"])
        settled = tuple(Settled(unit.id, unit.attempt, device.settled(unit)) for unit in doubt)
        state = {"applied": len(device.applied)}
        self.report(Ready(path, resource["epoch"], state, True, settled))

    def dispatched(self, path, epoch, unit):
        resource = self.resources.get(path)
        if resource is None or resource["epoch"] != epoch:
            reason = "unknown" if resource is None else "epoch"
            self.report(Dropped(path, unit.id, unit.attempt, reason))
        elif unit.id not in self.held(resource):
            assert len(resource["mailbox"]) < 3
            resource["mailbox"].append(unit)

    def cancel(self, path, name):
        resource = self.resources.get(path)
        for unit in resource["mailbox"] if resource else []:
            if unit.id == name:
                resource["mailbox"].remove(unit)
                self.finish(path, unit, "cancelled", unit.first)
                return

    def finish(self, path, unit, outcome, completed, fault=None):
        epoch = self.resources[path]["epoch"]
        observed = {"applied": len(self.devices[path].applied)}
        self.report(
            Finished(path, epoch, unit.id, unit.attempt, outcome, completed, observed, True, fault)
        )

    def work(self, *, faults):
        """Do one step of one resource."""
        if not self.connected or not self.resources:
            return
        path = self.rng.choice(sorted(self.resources))
        resource = self.resources[path]
        if resource["hand"] is None:
            if resource["mailbox"]:
                unit = resource["hand"] = resource["mailbox"].pop(0)
                resource["done"] = unit.first
                self.report(Started(path, resource["epoch"], unit.id, unit.attempt, 0.0))
            return
        unit, chance = resource["hand"], self.rng.random()
        if faults and chance < 0.1:
            resource["hand"] = None
            fault = Fault("busy", "busy", retryable=self.rng.random() < 0.8)
            self.finish(path, unit, "failed", resource["done"], fault)
        elif faults and chance < 0.2:
            if self.rng.random() < 0.5:
                self.devices[path].apply(resource["epoch"], unit, resource["done"])
            self.crash(path, culprit=self.rng.random() < 0.5)
        else:
            self.devices[path].apply(resource["epoch"], unit, resource["done"])
            resource["done"] += 1
            if resource["done"] < len(unit.commands):
                done = resource["done"]
                self.report(Progress(path, resource["epoch"], unit.id, unit.attempt, done))
            else:
                resource["hand"] = None
                self.finish(path, unit, "succeeded", resource["done"])

    def crash(self, path, *, culprit):
        resource = self.resources[path]
        unit = resource["hand"]
        flushed = tuple(each.id for each in resource["mailbox"])
        self.report(
            Crashed(
                path,
                resource["epoch"],
                unit.id,
                unit.attempt,
                resource["done"],
                "boom",
                flushed,
                culprit=culprit,
            )
        )
        self.incarnate(path, (unit,))


class World:
    """One zone: its book in memory, its journal on disk, two pods and four devices."""

    def __init__(self, folder, seed):
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.path = folder / "journal.db"
        self.devices = {path: Device() for path in PATHS}
        self.pods = {
            path: SimulatedPod(
                path, {p: d for p, d in self.devices.items() if p.startswith(path)}, self.rng
            )
            for path in ("eu/a/r1", "eu/a/r2")
        }
        self.accepted = []
        self.store = SqliteStore(self.path)
        self.store.commit([SaveInfrastructure(b"{}", 0, Changes(), self.now)])
        self.build()

    def build(self):
        """As `Orchestrator.start` does it."""
        reader = SqliteReader(self.path, self.store.tag)
        view = View(lambda: self.now)
        view.adopt(1, INFRASTRUCTURE)
        for row in reader.resources():
            view.restore(row)
        for name, (epoch, last) in reader.reporters().items():
            view.pods[name].reported_epoch, view.pods[name].last_report = epoch, last
        self.view = view
        self.book = ZoneBook(view, Figures(lambda: self.now), lambda: self.now, lambda: self.now)
        tag = self.store.tag
        self.book.restore(
            [QueuedUnit.restored(f"{tag}-{unit.seq}", unit) for unit in reader.open_units()]
        )
        reader.close()
        self.waiting = []
        for pod in self.pods.values():
            pod.disconnect()
        self.settle()

    def crash(self):
        """The orchestration node dies: what is not in the file has never been."""
        self.store.close()
        self.store = SqliteStore(self.path)
        self.build()

    def settle(self):
        self.book.pump()
        changes, outbox, _ = self.book.take()
        if changes or outbox:
            self.waiting.append((changes, outbox))

    def commit(self, *, deliver=True):
        """Make durable what waits, up to a point, then send what follows from it."""
        count = self.rng.randint(0, len(self.waiting))
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        if batch:
            self.store.commit([Record(changes) for changes, _ in batch])
        for _, outbox in batch if deliver else ():
            for pod, message in outbox:
                target = self.pods[pod.path]
                if target.connected:
                    target.down.append(message)

    def accept(self):
        policy = self.rng.choice(
            [OnFailure(), OnFailure(strategy="wait", attempts=4, backoff_s=0.01)]
        )
        verbs = self.rng.choice([["set"], ["set", "set"], ["create"], ["destroy"], ["set"] * 3])
        spec = UnitSpec(
            resource=self.rng.choice(PATHS),
            commands=tuple(CommandSpec(verb=verb) for verb in verbs),
            on_failure=policy,
        )
        ((answer,),) = [
            outcome.answer for outcome in self.store.commit([Accept((spec,), (), 1, self.now)])
        ]
        self.accepted.append(f"{self.store.tag}-{answer.seq}")
        if self.rng.random() < 0.95:
            self.book.accept([QueuedUnit(self.accepted[-1], answer.seq, spec, self.now)])
            self.settle()
        else:
            self.crash()

    def deliver(self, pod):
        """Pass one message on, in each direction; now and then a report comes twice."""
        if pod.down:
            pod.take(pod.down.pop(0))
        if not pod.up:
            return
        message = pod.up.pop(0)
        if isinstance(message, Inventory):
            self.book.pod_up(self.view.pods[pod.path], pod.epoch, message)
        else:
            again = 2 if self.rng.random() < 0.1 else 1
            self.book.reports(self.view.pods[pod.path], [message] * again)
        self.settle()

    def lose_link(self, pod):
        if pod.connected:
            pod.disconnect()
            self.book.pod_unreachable(self.view.pods[pod.path])
            self.drop_messages(pod)
            self.settle()

    def drop_messages(self, pod):
        """What was to be sent over the lost link is not sent over the next one."""
        self.waiting = [
            (changes, [(to, message) for to, message in outbox if to.path != pod.path])
            for changes, outbox in self.waiting
        ]

    def step(self, *, faults):
        self.now += 0.01
        pod = self.rng.choice(list(self.pods.values()))
        chance = self.rng.random() if faults else 1.0
        if chance < 0.01:
            self.crash()
        elif chance < 0.02:
            self.commit(deliver=False)
            self.crash()
        elif chance < 0.035:
            self.lose_link(pod)
            pod.restart()
        elif chance < 0.05:
            self.lose_link(pod)
        elif chance < 0.07 and self.accepted:
            self.book.cancel(self.rng.choice(self.accepted))
            self.settle()
        elif chance < 0.15:
            self.accept()
        else:
            self.calm_step(pod, faults=faults)

    def calm_step(self, pod, *, faults):
        match self.rng.randrange(4):
            case 0 if not pod.connected:
                pod.connect()
            case 1:
                self.book.tick()
                self.settle()
                self.commit()
            case 2:
                pod.work(faults=faults)
            case _:
                self.deliver(pod)

    def run_to_the_end(self):
        for _ in range(60_000):
            self.step(faults=False)
            if not self.book.units and not self.waiting and self.all_quiet():
                return
        raise AssertionError(f"stuck: {[(u.id, u.state) for u in self.book.units.values()]}")

    def all_quiet(self):
        return not any(pod.up or pod.down or pod.unacked for pod in self.pods.values())


@pytest.mark.parametrize("seed", range(24))
def test_every_accepted_unit_ends_once_and_in_order_whatever_crashes(tmp_path, seed):
    world = World(tmp_path, seed)
    for _ in range(800):
        world.step(faults=True)
    world.run_to_the_end()

    reader = SqliteReader(world.path, world.store.tag)
    states = {unit: reader.unit(int(unit.rpartition("-")[2])).state for unit in world.accepted}
    with reader.replay(1000) as replay:
        answer = verify(replay.events(), Present(), replay.units())
    reader.close()
    world.store.close()
    assert answer.holds, [each for each in answer.invariants if not each.holds]
    assert (answer.units, answer.unfinished) == (len(world.accepted), 0)
    assert set(states.values()) <= TERMINAL
    applied = [entry for device in world.devices.values() for entry in device.applied]
    for unit, state in states.items():
        count = sum(name == unit for name, _ in applied)
        if state is UnitState.SUPERSEDED:
            assert count == 0
        if state is UnitState.SUCCEEDED:
            assert count > 0
    for device in world.devices.values():
        numbers = [int(unit.rpartition("-")[2]) for unit, _ in device.applied]
        assert numbers == sorted(numbers)
