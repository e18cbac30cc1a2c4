"""The units of work of the demo: for every resource a script in which each unit changes the device.

Because each unit has exactly one effect, the devices' own records tell a lost unit (an effect is missing)
from a repeated one (an effect too many) without asking the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import count

from msgspec import Struct

__all__ = ["ON_DEMAND", "RACE_UNITS", "Unit", "deal", "effects", "jsonl"]

RACE_UNITS = 2  # one create, one destroy, from two clients
ON_DEMAND = 10  # machines made when work for them arrives, in each pod that has a template
PATIENCE = {"strategy": "wait", "attempts": 0, "backoff_s": 0.1, "backoff_max_s": 2.0}


class Unit(Struct, frozen=True):
    """A unit before it is submitted; `verbs` are its commands' verbs."""

    resource: str
    key: str
    commands: tuple[dict[str, object], ...]

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the commands, in order."""
        return tuple(str(command["verb"]) for command in self.commands)


def deal(resources: Sequence[str], total: int, prefix: str) -> list[Unit]:
    """Make `total` units, dealt to the resources in turn; each first creates and starts its device."""
    units: list[Unit] = []
    for round_number in count():
        for resource in resources:
            if len(units) == total:
                return units
            units.append(_unit(resource, round_number, f"{prefix}-{len(units)}"))
    raise AssertionError("count() never ends")


def jsonl(units: Iterable[Unit]) -> str:
    """Return the units as `cloudctl submit work -f -` reads them."""
    return "".join(
        json.dumps(
            {
                "resource": unit.resource,
                "commands": unit.commands,
                "idempotency_key": unit.key,
                "on_failure": PATIENCE,
            }
        )
        + "\n"
        for unit in units
    )


def effects(verbs: Iterable[str]) -> list[str]:
    """Say what a machine that runs these commands one after the other does: defined, started and so on.

    A command that finds the machine as it should be has no effect.
    """
    done: list[str] = []
    exists = running = False
    for verb in verbs:
        if verb == "create" and not exists:
            done.append("defined")
            exists = True
        elif verb == "start" and exists and not running:
            done.append("started")
            running = True
        elif verb in {"stop", "destroy"} and running:
            done.append("stopped")
            running = False
        if verb == "destroy" and exists:
            done.append("undefined")
            exists = False
    return done


def _unit(resource: str, round_number: int, key: str) -> Unit:
    if round_number == 0:
        return Unit(resource, key, ({"verb": "create"}, {"verb": "start"}))
    verb = "stop" if round_number % 2 else "start"
    return Unit(resource, key, ({"verb": verb},))
