"""The registry against a model: a list of entries, whatever processes do and however they end."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from otp import CallResult, GenServer, NoReply, Pid, Reply, Result, registry
from otp.registry import AlreadyRegisteredError, Keys, NotRegisteredError, Registry
from otp.testing import Handle, VirtualRuntime

KEYS = st.sampled_from(["a", "b", 1, 1.0, True, ("a", 1), ("a", 1.0)])
VALUES = st.integers(0, 3)


class Actor(GenServer[None]):
    """Does with the registry what it is asked to, as itself."""

    def init(self) -> None:
        return None

    def handle_call(self, request: Any, from_: Any, state: None) -> CallResult[None]:
        try:
            return Reply(request(), state)
        except registry.RegistryError as error:
            return Reply(error, state)

    def handle_info(self, message: Any, state: None) -> Result[None]:
        return NoReply(state)


def same(left: object, right: object) -> bool:
    return repr(left) == repr(right)


class RegistryMachine(RuleBasedStateMachine):
    kind = Keys.UNIQUE
    partitions = 1
    actors = Bundle("actors")

    def __init__(self) -> None:
        super().__init__()
        self.virtual = VirtualRuntime()
        self.virtual.start(Registry("names", keys=self.kind, partitions=self.partitions))
        self.reader = self.virtual.start(Actor())
        self.living: dict[Pid, Handle] = {}
        self.entries: list[tuple[object, Pid, int]] = []

    def teardown(self) -> None:
        self.virtual.close()

    @rule(target=actors)
    def start(self) -> Handle:
        actor = self.virtual.start(Actor())
        self.living[actor.pid] = actor
        return actor

    @rule(actor=actors, key=KEYS, value=VALUES)
    def register(self, actor: Handle, key: Any, value: int) -> None:
        answer = actor.call(lambda: registry.register("names", key, value))
        taken = [pid for held, pid, _ in self.entries if same(held, key)]
        if self.kind is Keys.UNIQUE and taken:
            assert isinstance(answer, AlreadyRegisteredError)
            assert answer.pid is taken[0]
        else:
            assert answer.is_alive()
            self.entries.append((key, actor.pid, value))

    @rule(actor=actors, key=KEYS)
    def unregister(self, actor: Handle, key: Any) -> None:
        actor.call(lambda: registry.unregister("names", key))
        self.entries = [
            entry for entry in self.entries if entry[1] is not actor.pid or not same(entry[0], key)
        ]

    @rule(actor=actors, key=KEYS, value=VALUES)
    def unregister_match(self, actor: Handle, key: Any, value: int) -> None:
        actor.call(lambda: registry.unregister_match("names", key, lambda held: held == value))
        self.entries = [
            entry
            for entry in self.entries
            if entry[1] is not actor.pid or not same(entry[0], key) or entry[2] != value
        ]

    @precondition(lambda self: self.kind is Keys.UNIQUE)
    @rule(actor=actors, key=KEYS, value=VALUES)
    def update_value(self, actor: Handle, key: Any, value: int) -> None:
        answer = actor.call(lambda: registry.update_value("names", key, lambda _: value))
        for position, (held, pid, old) in enumerate(self.entries):
            if same(held, key) and pid is actor.pid:
                assert answer == (value, old)
                self.entries[position] = (held, pid, value)
                return
        assert isinstance(answer, NotRegisteredError)

    @rule(actor=consumes(actors), reason=st.sampled_from(["shutdown", "kill", "boom"]))
    def end(self, actor: Handle, reason: str) -> None:
        actor.exit(reason)
        del self.living[actor.pid]
        self.entries = [entry for entry in self.entries if entry[1] is not actor.pid]

    @invariant()
    def every_view_agrees(self) -> None:
        entries = self.reader.call(lambda: registry.select("names"))
        shown = [(entry.key, entry.pid, entry.value) for entry in entries]
        assert sorted(map(repr, shown)) == sorted(map(repr, self.entries))
        for actor in self.living.values():
            keys = self.reader.call(lambda pid=actor.pid: registry.keys("names", pid))
            mine = [key for key, pid, _ in self.entries if pid is actor.pid]
            assert sorted(map(repr, keys)) == sorted(map(repr, mine))
            assert bool(actor.pid.linked()) == bool(mine)

    @invariant()
    def nothing_is_left_of_the_dead(self) -> None:
        self.virtual.run_until_idle()
        assert self.reader.call(lambda: registry.count("names")) == len(self.entries)
        table = self.virtual.runtime.tables["registry", "names"]
        holders = {pid for partition in table.partitions for pid in partition.pids}
        assert holders == {pid for _, pid, _ in self.entries}


class DuplicateMachine(RegistryMachine):
    kind = Keys.DUPLICATE
    partitions = 3


class DuplicateByKeyMachine(RegistryMachine):
    kind = Keys.DUPLICATE_BY_KEY
    partitions = 3


class PartitionedMachine(RegistryMachine):
    partitions = 4


def _case(machine: type[RegistryMachine]) -> Any:
    case = machine.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
    return case


TestUnique = _case(RegistryMachine)
TestUniquePartitioned = _case(PartitionedMachine)
TestDuplicate = _case(DuplicateMachine)
TestDuplicateByKey = _case(DuplicateByKeyMachine)
