"""A pod on a virtual clock, with scripted devices, and orchestration's side of it: what was reported."""

from __future__ import annotations

from collections import Counter
from random import Random

from automation.pod import Pod
from otp.testing import VirtualRuntime
from rpc.messages import (
    Cancel,
    Command,
    Crashed,
    Define,
    Dispatch,
    Dropped,
    Finished,
    PodDefinition,
    Ready,
    ReportBody,
    ResourceDefinition,
    Retire,
    Supervision,
    Unit,
)
from tests.automation.scripted import Scripted

BRIEFLY_S = 0.01  # a claim gathers company first


def command(verb: str = "set", **params: object) -> Command:
    return Command(verb, params)


def unit(name: str, *commands: Command, attempt: int = 1, first: int = 0, **more) -> Unit:
    return Unit(name, 1, attempt, first, commands or (command(value=name),), **more)


class Reports:
    """What a gateway would have sent; `is_open` is orchestration's presence."""

    def __init__(self) -> None:
        self.is_open = True
        self.all: list[ReportBody] = []
        self.figures = 0

    def report(self, body: ReportBody) -> None:
        self.all.append(body)

    def tell_figures(self) -> None:
        self.figures += 1


class Bench:
    """`bench.virtual` is the clock; every device is behind `bench.driver`."""

    def __init__(self, seed: int | None = None, **pod: object) -> None:
        self.virtual = VirtualRuntime(seed)
        self.driver = Scripted()
        self.others: dict[str, Scripted] = {}  # by name; other devices than those of `driver`
        self.reports = Reports()
        self.revision = 0
        pod.setdefault("supervision", Supervision(intensity=1000, period_s=1.0))
        self.definition = PodDefinition("eu/a/p", **pod)
        self.pod = Pod(self.virtual.runtime, self.definition, (1, 1, 1), self.reports, self._load)
        self.top = self.virtual.run(self.pod.start())
        # Jitter is drawn from here, so that equal seeds give equal runs.
        self.pod._surroundings.random = Random(seed)
        self.pod._resources.server._random = Random(seed)
        self.virtual.advance(BRIEFLY_S)

    def _load(self, name: str):
        if name == "missing":
            raise LookupError("no driver is called 'missing'")
        return lambda connect: self.others.get(name, self.driver)

    def future(self):
        return self.virtual.loop.create_future()

    def define(self, *names: str, complete: bool = False, **more) -> None:
        more.setdefault("driver", "scripted")
        definitions = tuple(
            ResourceDefinition(path=f"eu/a/p/{name}", kind="vm", connect="", config={}, **more)
            if "config" not in more
            else ResourceDefinition(path=f"eu/a/p/{name}", kind="vm", connect="", **more)
            for name in names
        )
        self.revision += 1
        self.pod.received(Define(self.revision, definitions, complete))
        self.virtual.advance(BRIEFLY_S)

    def retire(self, *names: str) -> None:
        self.pod.received(Retire(self.revision, tuple(f"eu/a/p/{name}" for name in names)))
        self.virtual.advance(BRIEFLY_S)

    def epoch(self, name: str):
        return self.resource(name).epoch

    def resource(self, name: str):
        found = [r for r in self.pod.inventory(0).resources if r.path == f"eu/a/p/{name}"]
        return found[0] if found else None

    def dispatch(self, name: str, *units: Unit, epoch=None) -> None:
        for one in units:
            at = self.epoch(name) if epoch is None else epoch
            self.pod.received(Dispatch(f"eu/a/p/{name}", at, one))
        self.virtual.advance(BRIEFLY_S)

    def cancel(self, name: str, unit_id: str) -> None:
        self.pod.received(Cancel(f"eu/a/p/{name}", unit_id))
        self.virtual.advance(BRIEFLY_S)

    def open(self, *, on: bool) -> None:
        self.reports.is_open = on
        if on:
            self.pod.opened()
        self.virtual.advance(BRIEFLY_S)

    def of(self, kind: type, name: str | None = None) -> list:
        return [
            body
            for body in self.reports.all
            if isinstance(body, kind) and (name is None or body.path == f"eu/a/p/{name}")
        ]

    def keys(self, name: str = "r") -> list[str]:
        return [key for path, key in self.driver.effects if path == f"eu/a/p/{name}"]

    def outcomes(self, name: str | None = None) -> list[tuple[str, str]]:
        return [(body.unit, body.outcome) for body in self.of(Finished, name)]

    def accounts(self) -> Counter[str]:
        """How often each unit was accounted for: finished, dropped, flushed, or in doubt."""
        accounts: Counter[str] = Counter()
        for body in self.reports.all:
            match body:
                case Finished():
                    accounts[body.unit] += 1
                case Dropped():
                    accounts[body.unit] += 1
                case Crashed():
                    accounts.update(body.flushed)
                    if body.unit is not None:
                        accounts[body.unit] += 1
        return accounts

    def ready(self, name: str = "r") -> list[Ready]:
        return self.of(Ready, name)

    def close(self) -> None:
        self.virtual.close()
