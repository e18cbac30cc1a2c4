"""One simulated device: what exists, which commands it remembers, and the epoch it is fenced at.

Its verbs fit any kind of resource: the state is `running` plus whatever attributes it was given.
Nothing here knows sockets or time; the same calls replay the ledger after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TypeVar

from drivers.contract import Epoch, Observation
from drivers.device_faults import FAULT_WORDS

__all__ = ["KEYS_REMEMBERED", "MARKS_SHOWN", "VERBS", "Device", "RefusalError", "transition"]

KEYS_REMEMBERED = 128
MARKS_SHOWN = 8  # the latest keys an observation lists; `knows` asks for all of them

State = dict[str, object]

V = TypeVar("V")


class RefusalError(Exception):
    """The device cannot do this in its present state; the caller is told and nothing changes."""


class Device:
    """A device's whole memory. The service owns it, so it changes in place."""

    __slots__ = ("_keys", "_tries", "failed", "fence", "in_flight", "revision", "state")

    def __init__(self) -> None:
        self.state: State | None = None  # None: does not exist
        self.fence: Epoch = ()
        self.revision = 0
        self.in_flight: dict[int, str] = {}  # command number to key, oldest first
        self.failed: dict[str, str] = {}  # outcome of the commands that failed after acceptance
        self._keys: dict[str, None] = {}
        self._tries: dict[str, int] = {}

    def raise_fence(self, epoch: Epoch) -> bool:
        """Take `epoch` as the oldest that is served; False if a newer one was here."""
        if epoch < self.fence:
            return False
        self.fence = epoch
        return True

    def knows(self, key: str) -> bool:
        """Say whether the command `key` was applied."""
        return key in self._keys

    def count_try(self, key: str) -> int:
        """Count a try of the command `key`, and return its number from 1."""
        tries = self._tries.pop(key, 0) + 1
        _remember(self._tries, key, tries)
        return tries

    def preview(self, verb: str, params: Mapping[str, object]) -> bool:
        """Say whether the command would change anything.

        Raises:
            RefusalError: it cannot be done.
        """
        return verb == "noop" or transition(self.state, verb, params) != self.state

    def apply(self, key: str, verb: str, params: Mapping[str, object]) -> bool:
        """Do the command and remember its key; False if there was nothing to change.

        Raises:
            RefusalError: it cannot be done.
        """
        after = transition(self.state, verb, params)
        changed = verb == "noop" or after != self.state
        self.state = after
        self.mark(key)
        self.revision += changed
        return changed

    def mark(self, key: str) -> None:
        """Remember that the command `key` needs no repetition."""
        self._tries.pop(key, None)
        self.failed.pop(key, None)
        self._keys.pop(key, None)
        _remember(self._keys, key, None)

    def note_failure(self, key: str, outcome: str) -> None:
        """Remember how an accepted command failed, for whoever asks after it."""
        _remember(self.failed, key, outcome)

    def overwrite(self, state: State | None) -> None:
        """Change by itself, as when somebody works on the device by hand."""
        self.state = state
        self.revision += 1

    def observe(self, marks: int = MARKS_SHOWN) -> Observation:
        """Describe itself, with its latest `marks` keys."""
        latest = list(islice(reversed(self._keys), marks))
        return Observation(
            exists=self.state is not None,
            state={} if self.state is None else self.state,
            revision=str(self.revision),
            marks=tuple(reversed(latest)),
            in_flight=next(iter(self.in_flight.values()), None),
            epoch=self.fence,
        )


def transition(state: State | None, verb: str, params: Mapping[str, object]) -> State | None:
    """Return the state after `verb`; `state` itself where nothing changes. None: does not exist.

    Raises:
        RefusalError: the verb does not fit the state, or there is no such verb.
    """
    apply = VERBS.get(verb)
    if apply is None:
        raise RefusalError(f"no verb {verb!r}; there are {', '.join(VERBS)}")
    if state is None and verb not in _FIT_FOR_NOTHING:
        raise RefusalError(f"cannot {verb}: it does not exist")
    return apply(state, {name: value for name, value in params.items() if name not in FAULT_WORDS})


def _create(state: State | None, attributes: State) -> State | None:
    if state is None:
        return {"running": False, **attributes}
    other = {name for name, value in attributes.items() if state.get(name) != value}
    if other:
        raise RefusalError(f"exists already, with another {', '.join(sorted(other))}")
    return state


def _destroy(_state: State | None, _attributes: State) -> State | None:
    return None


def _start(state: State | None, _attributes: State) -> State | None:
    return {**(state or {}), "running": True}


def _stop(state: State | None, _attributes: State) -> State | None:
    return {**(state or {}), "running": False}


def _set(state: State | None, attributes: State) -> State | None:
    merged = {**(state or {}), **attributes}
    return {name: value for name, value in merged.items() if value is not None}


def _snapshot(state: State | None, attributes: State) -> State | None:
    return {**(state or {}), "snapshots": sorted({*_snapshots(state), _name(attributes)})}


def _drop_snapshot(state: State | None, attributes: State) -> State | None:
    left = sorted({*_snapshots(state)} - {_name(attributes)})
    rest = {name: value for name, value in (state or {}).items() if name != "snapshots"}
    return {**rest, "snapshots": left} if left else rest


def _noop(state: State | None, _attributes: State) -> State | None:
    return state


VERBS = {
    "create": _create,
    "destroy": _destroy,
    "start": _start,
    "stop": _stop,
    "set": _set,
    "snapshot": _snapshot,
    "drop_snapshot": _drop_snapshot,
    "noop": _noop,
}

_FIT_FOR_NOTHING = frozenset({"create", "destroy", "noop"})


def _snapshots(state: State | None) -> list[str]:
    found = (state or {}).get("snapshots", [])
    return [str(name) for name in found] if isinstance(found, list) else []


def _name(attributes: State) -> str:
    name = attributes.get("name")
    if not isinstance(name, str) or not name:
        raise RefusalError("a snapshot needs a name")
    return name


def _remember(memory: dict[str, V], key: str, value: V) -> None:
    memory[key] = value
    if len(memory) > KEYS_REMEMBERED:
        del memory[next(iter(memory))]
