import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from otp import (
    AlreadyStartedError,
    CallResult,
    Exit,
    GenServer,
    NameTakenError,
    NoProcessError,
    NoReply,
    Pid,
    Reply,
    Result,
    Supervisor,
    gen_server,
    receive,
    registry,
    self_pid,
    send,
    spawn,
    sys,
    trap_exit,
)
from otp.registry import (
    AlreadyRegisteredError,
    Entry,
    Keys,
    NotRegisteredError,
    Registered,
    Registry,
    RegistryError,
    Unregistered,
    Via,
)

PARTITIONS = pytest.mark.parametrize("partitions", [1, 8])
DUPLICATE = pytest.mark.parametrize("kind", [Keys.DUPLICATE, Keys.DUPLICATE_BY_KEY])


@pytest.fixture
def unique(runtime, request) -> None:
    partitions = request.getfixturevalue("partitions")
    runtime.start(Registry("names", keys="unique", partitions=partitions))


@pytest.fixture
def duplicate(runtime, request) -> None:
    kind, partitions = request.getfixturevalue("kind"), request.getfixturevalue("partitions")
    runtime.start(Registry("names", keys=kind, partitions=partitions))


async def in_another_process(what: Callable[[], Any]) -> tuple[Pid, Any]:
    """Do it in a new process that then lives on until it is sent "stop"; gives its pid and the result."""
    me = self_pid()

    async def other() -> None:
        try:
            send(me, (self_pid(), what()))
        except RegistryError as error:
            send(me, (self_pid(), error))
        await receive(lambda message: message == "stop")

    pid = spawn(other)
    return await receive(lambda message: isinstance(message, tuple) and message[0] is pid)


async def end(pid: Pid, reason: object = "kill") -> None:
    """Kill it and wait until it is gone, but not for the registry to notice."""
    wait = pid.runtime.exited(pid)
    pid.exit_signal(None, reason)
    await wait


async def settle() -> None:
    await asyncio.sleep(0.01)


def partition_links() -> list[str]:
    return [pid.name for pid in self_pid().linked() if pid.name is not None]


# registry_test.exs


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "clean up registry on process crash")
def test_entries_of_a_dead_process_vanish_from_every_partition(inside, partitions):
    async def body() -> None:
        pid, _ = await in_another_process(
            lambda: [registry.register("names", key, key) for key in range(20)]
        )
        assert registry.count("names") == 20
        await end(pid)
        await settle()
        assert registry.count("names") == 0
        assert registry.select("names") == []
        assert registry.keys("names", pid) == []

    inside(body)


class Locker:
    """Processes that hold locks of "names", and what they did."""

    def __init__(self) -> None:
        self.trace: list[str] = []

    def start(self, name: str, key: object, *, fails: bool = False) -> Pid:
        async def critical() -> str:
            self.trace.append(f"{name} in")
            await receive(lambda message: message == "go")
            self.trace.append(f"{name} out")
            if fails:
                raise ValueError(name)
            return name

        async def body() -> None:
            assert await registry.lock("names", key, critical) == name

        return spawn(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "does not lock when using different keys")
def test_locks_of_two_keys_are_held_at_once(inside, partitions):
    async def body() -> None:
        locker = Locker()
        locker.start("a", 1)
        locker.start("b", 1.0)
        await settle()
        assert locker.trace == ["a in", "b in"]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "locks when using the same key")
def test_a_locked_key_waits_first_come_first_served(inside, partitions):
    async def body() -> None:
        locker = Locker()
        pids = [locker.start(name, "key") for name in "abc"]
        await settle()
        assert locker.trace == ["a in"]
        for pid in pids:
            send(pid, "go")
            await settle()
        assert locker.trace == ["a in", "a out", "b in", "b out", "c in", "c out"]
        assert registry.select("names") == []

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "locks when the one holding the lock raises")
def test_a_lock_is_free_after_its_function_raised(inside, partitions):
    async def body() -> None:
        locker = Locker()
        first = locker.start("a", "key", fails=True)
        locker.start("b", "key")
        await settle()
        send(first, "go")
        await settle()
        assert locker.trace == ["a in", "a out", "b in"]
        with pytest.raises(ZeroDivisionError):
            await registry.lock("names", "other", lambda: 1 / 0)
        assert await registry.lock("names", "other", lambda: 7) == 7

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "locks when the one holding the lock terminates")
def test_a_lock_is_free_after_its_holder_died(inside, partitions):
    async def body() -> None:
        locker = Locker()
        first = locker.start("a", "key")
        locker.start("b", "key")
        await settle()
        await end(first)
        await settle()
        assert locker.trace == ["a in", "b in"]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "locks when the one waiting for the lock terminates")
def test_a_dead_waiter_for_a_lock_is_skipped(inside, partitions):
    async def body() -> None:
        locker = Locker()
        first, second, _ = [locker.start(name, "key") for name in "abc"]
        await settle()
        await end(second)
        send(first, "go")
        await settle()
        assert locker.trace == ["a in", "a out", "c in"]

    inside(body)


# unique_test.exs


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: starts configured number of partitions")
def test_unique_registry_has_the_partitions_asked_for(runtime, partitions):
    names = [name for name in runtime.runtime.registered() if name.startswith("names.partition")]

    assert sorted(names) == [f"names.partition{index}" for index in range(partitions)]


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: counts 0 keys in an empty registry")
def test_empty_unique_registry_counts_nothing(inside, partitions):
    async def body() -> int:
        return registry.count("names")

    assert inside(body) == 0


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: counts the number of keys in a registry")
def test_unique_registry_counts_its_keys(inside, partitions):
    async def body() -> int:
        registry.register("names", "hello", "value")
        registry.register("names", "world", "value")
        return registry.count("names")

    assert inside(body) == 2


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: has unique registrations")
def test_second_register_of_a_unique_key_is_refused(inside, partitions):
    async def body() -> None:
        owner = registry.register("names", "hello", "value")
        assert owner.is_alive()
        assert owner in self_pid().linked()
        with pytest.raises(AlreadyRegisteredError) as refused:
            registry.register("names", "hello", "other")
        assert refused.value.pid is self_pid()
        assert registry.lookup("names", "hello") == [(self_pid(), "value")]
        assert registry.values("names", "hello", self_pid()) == ["value"]
        registry.register("names", "world", "value")
        assert sorted(registry.keys("names", self_pid())) == ["hello", "world"]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: has unique registrations across processes")
def test_unique_key_of_another_process_is_refused(inside, partitions):
    async def body() -> None:
        pid, _ = await in_another_process(lambda: registry.register("names", "hello", "value"))
        with pytest.raises(AlreadyRegisteredError) as refused:
            registry.register("names", "hello", "recent")
        assert refused.value.pid is pid
        assert registry.keys("names", self_pid()) == []
        assert registry.keys("names", pid) == ["hello"]
        assert registry.values("names", "hello", pid) == ["value"]
        assert registry.values("names", "hello", self_pid()) == []
        assert partition_links() == []

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: has unique registrations even if partition is delayed")
def test_dead_holder_does_not_block_its_key_before_cleanup(inside, partitions):
    async def body() -> None:
        pid, owner = await in_another_process(lambda: registry.register("names", "hello", "old"))
        await sys.suspend(owner)
        await end(pid)
        assert registry.count("names") == 1
        assert registry.lookup("names", "hello") == []
        assert registry.keys("names", pid) == []
        registry.register("names", "hello", "new")
        await sys.resume(owner)
        await settle()
        assert registry.lookup("names", "hello") == [(self_pid(), "new")]
        assert registry.keys("names", self_pid()) == ["hello"]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: compares using ===")
def test_unique_keys_are_compared_exactly(inside, partitions):
    async def body() -> None:
        for key in (1, 1.0, True, (1,), (1.0,)):
            registry.register("names", key, repr(key))
        for key in (1, 1.0, True, (1,), (1.0,)):
            assert registry.lookup("names", key) == [(self_pid(), repr(key))]
        registry.unregister("names", 1.0)
        assert [repr(key) for key in registry.keys("names", self_pid())] == [
            "1",
            "True",
            "(1,)",
            "(1.0,)",
        ]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: updates current process value")
def test_update_value_changes_only_an_own_key(inside, partitions):
    async def body() -> None:
        with pytest.raises(NotRegisteredError):
            registry.update_value("names", "hello", str.upper)
        registry.register("names", "hello", "value")
        assert registry.update_value("names", "hello", str.upper) == ("VALUE", "value")
        assert registry.lookup("names", "hello") == [(self_pid(), "VALUE")]

        _, refused = await in_another_process(
            lambda: registry.update_value("names", "hello", str.lower)
        )
        assert isinstance(refused, NotRegisteredError)
        assert registry.lookup("names", "hello") == [(self_pid(), "VALUE")]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: dispatches to a single key")
def test_dispatch_of_a_unique_key_runs_in_the_caller(inside, partitions):
    async def body() -> None:
        seen: list[Any] = []

        def note(entries: list[tuple[Pid, object]]) -> None:
            seen.append((self_pid(), entries))

        registry.dispatch("names", "hello", note)
        assert seen == []
        registry.register("names", "hello", "value")
        registry.dispatch("names", "hello", note)
        assert seen == [(self_pid(), [(self_pid(), "value")])]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: unregisters process by key")
def test_unregister_removes_only_that_unique_key(inside, partitions):
    async def body() -> None:
        registry.register("names", "hello", "value")
        registry.register("names", "world", "value")
        registry.unregister("names", "hello")
        assert registry.keys("names", self_pid()) == ["world"]
        registry.unregister("names", "world")
        assert registry.keys("names", self_pid()) == []
        assert registry.count("names") == 0

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: unregisters with no entries")
def test_unregister_without_entries_is_fine(inside, partitions):
    async def body() -> None:
        registry.unregister("names", "hello")
        assert registry.count("names") == 0

    inside(body)


async def listened(runtime: Any) -> list[object]:
    """Register under the eyes of the listener "ear", and say what it was told."""
    owner = runtime.runtime.whereis("listened.partition0")
    runtime.runtime.register("ear", self_pid())
    registry.register("listened", "hello", "value")
    other, _ = await in_another_process(lambda: registry.register("listened", "there", 1))
    registry.unregister("listened", "hello")
    await end(other)
    await settle()
    assert owner.is_alive()
    told = [await receive(timeout_s=0) for _ in range(3)]
    assert told == [
        Registered("listened", "hello", self_pid(), "value"),
        Registered("listened", "there", other, 1),
        Unregistered("listened", "hello", self_pid()),
    ]
    return told


@PARTITIONS
@pytest.mark.otp("Elixir", "u: allows listeners")
def test_listeners_hear_of_unique_registrations(runtime, inside, partitions):
    runtime.start(Registry("listened", partitions=partitions, listeners=["ear", "nobody"]))

    assert len(inside(listened, runtime)) == 3


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: links and unlinks on register/unregister")
def test_link_to_the_partition_lasts_as_long_as_a_unique_key(inside, partitions):
    async def body() -> None:
        owner = registry.register("names", "hello", "value")
        assert registry.register("names", "world", "value") is owner
        assert partition_links() == [owner.name]
        registry.unregister("names", "hello")
        assert partition_links() == [owner.name]
        registry.unregister("names", "world")
        assert partition_links() == []
        registry.unregister("names", "world")
        assert partition_links() == []

    inside(body)


async def expect_unknown_registry() -> None:
    for use in (
        lambda: registry.register("unknown", "hello", "value"),
        lambda: registry.lookup("unknown", "hello"),
        lambda: registry.keys("unknown", self_pid()),
        lambda: registry.count("unknown"),
        lambda: registry.meta("unknown", "hello"),
        lambda: registry.whereis("unknown", "hello"),
    ):
        with pytest.raises(RegistryError, match="unknown registry: 'unknown'"):
            use()


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: raises on unknown registry name")
def test_unknown_registry_is_named_beside_a_unique_one(inside, partitions):
    async def body() -> int:
        await expect_unknown_registry()
        return registry.count("names")

    assert inside(body) == 0


class Counter(GenServer[int]):
    """Counts what it is cast and sent."""

    def init(self) -> int:
        return 0

    def handle_call(self, request: Any, from_: Any, state: int) -> CallResult[int]:
        return Reply(state, state)

    def handle_cast(self, request: int, state: int) -> Result[int]:
        return NoReply(state + request)

    def handle_info(self, message: int, state: int) -> Result[int]:
        return NoReply(state + message)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: via callbacks")
def test_via_stands_wherever_a_name_does(runtime, inside, partitions):
    async def body() -> None:
        via = Via("names", ("counter", 1))
        with pytest.raises(NoProcessError):
            await gen_server.call(via, "how many")
        with pytest.raises(NoProcessError):
            send(via, 1)
        pid = gen_server.start(Counter(), name=via)
        assert registry.whereis("names", ("counter", 1)) is pid
        with pytest.raises(AlreadyStartedError) as taken:
            gen_server.start(Counter(), name=via)
        assert taken.value.pid is pid
        gen_server.cast(via, 40)
        send(via, 2)
        assert await gen_server.call(via, "how many") == 42
        await gen_server.stop(via)
        assert registry.whereis("names", ("counter", 1)) is None
        assert gen_server.start(Counter(), name=via).is_alive()
        runtime.runtime.unregister(via)
        assert registry.whereis("names", ("counter", 1)) is None

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: uses value provided in via")
def test_via_stores_its_value(inside, partitions):
    async def body() -> None:
        pid = gen_server.start(Counter(), name=Via("names", "counter", {"zone": "eu"}))
        assert registry.lookup("names", "counter") == [(pid, {"zone": "eu"})]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: empty list for empty registry")
def test_empty_unique_registry_selects_nothing(inside, partitions):
    async def body() -> list[Entry]:
        return registry.select("names")

    assert inside(body) == []


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: select all")
def test_select_lists_all_unique_entries(inside, partitions):
    async def body() -> None:
        registry.register("names", "hello", 1)
        registry.register("names", "world", 2)
        mine = [Entry("hello", self_pid(), 1), Entry("world", self_pid(), 2)]
        found = registry.select("names")
        assert sorted(found, key=lambda entry: str(entry.key)) == mine
        assert registry.select("names", lambda entry: entry.value == 2) == mine[1:]

    inside(body)


def residue(runtime: Any) -> tuple[int, int]:
    """How many keys and how many processes the tables know."""
    table = runtime.runtime.tables["registry", "names"]
    halves = table.partitions
    return sum(len(half.keys) for half in halves), sum(len(half.pids) for half in halves)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: doesn't grow ets on already_registered")
def test_refused_register_leaves_no_residue(runtime, inside, partitions):
    async def body() -> None:
        registry.register("names", "hello", "value")
        for _ in range(3):
            with pytest.raises(AlreadyRegisteredError):
                registry.register("names", "hello", "value")
            assert residue(runtime) == (1, 1)
            assert registry.keys("names", self_pid()) == ["hello"]

    inside(body)


@PARTITIONS
@pytest.mark.usefixtures("unique")
@pytest.mark.otp("Elixir", "u: doesn't grow ets on already_registered across processes")
def test_register_refused_to_others_leaves_no_residue(runtime, inside, partitions):
    async def body() -> None:
        registry.register("names", "hello", "value")
        pid, refused = await in_another_process(lambda: registry.register("names", "hello", 1))
        assert isinstance(refused, AlreadyRegisteredError)
        assert residue(runtime) == (1, 1)
        assert pid.linked() == ()

    inside(body)


# duplicate_test.exs


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: starts configured number of partitions")
def test_duplicate_registry_has_the_partitions_asked_for(runtime, kind, partitions):
    names = [name for name in runtime.runtime.registered() if name.startswith("names.partition")]

    assert len(names) == partitions


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: counts 0 keys in an empty registry")
def test_empty_duplicate_registry_counts_nothing(inside, kind, partitions):
    async def body() -> int:
        return registry.count("names")

    assert inside(body) == 0


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: counts the number of keys in a registry")
def test_duplicate_registry_counts_every_entry(inside, kind, partitions):
    async def body() -> int:
        for key in ("hello", "hello", "world"):
            registry.register("names", key, "value")
        return registry.count("names")

    assert inside(body) == 3


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: has duplicate registrations")
def test_process_may_hold_a_duplicate_key_twice(inside, kind, partitions):
    async def body() -> None:
        owner = registry.register("names", "hello", "first")
        assert registry.register("names", "hello", "second") is owner
        assert registry.keys("names", self_pid()) == ["hello", "hello"]
        assert registry.values("names", "hello", self_pid()) == ["first", "second"]
        assert registry.lookup("names", "hello") == [
            (self_pid(), "first"),
            (self_pid(), "second"),
        ]

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: has duplicate registrations across processes")
def test_processes_share_a_duplicate_key(inside, kind, partitions):
    async def body() -> None:
        other, _ = await in_another_process(lambda: registry.register("names", "hello", "theirs"))
        registry.register("names", "hello", "mine")
        assert registry.keys("names", self_pid()) == registry.keys("names", other) == ["hello"]
        assert registry.values("names", "hello", other) == ["theirs"]
        assert set(registry.lookup("names", "hello")) == {(self_pid(), "mine"), (other, "theirs")}
        await end(other)
        assert registry.lookup("names", "hello") == [(self_pid(), "mine")]

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: compares using matches")
def test_duplicate_keys_are_compared_exactly(inside, kind, partitions):
    async def body() -> None:
        registry.register("names", 1.0, "float")
        registry.register("names", 1, "int")
        assert registry.lookup("names", 1.0) == [(self_pid(), "float")]
        assert registry.lookup("names", 1) == [(self_pid(), "int")]
        registry.unregister("names", 1)
        assert registry.lookup("names", 1.0) == [(self_pid(), "float")]

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: dispatches to multiple keys in serial")
def test_serial_dispatch_runs_in_the_caller_for_its_key_only(inside, kind, partitions):
    async def body() -> None:
        registry.register("names", "world", "not asked for")
        others = [
            (await in_another_process(lambda: registry.register("names", "hello", 1)))[0]
            for _ in range(9)
        ]
        seen: list[tuple[Pid, list[tuple[Pid, object]]]] = []
        registry.dispatch("names", "hello", lambda entries: seen.append((self_pid(), entries)))
        assert {pid for pid, _ in seen} == {self_pid()}
        assert {entry for _, group in seen for entry in group} == {(pid, 1) for pid in others}
        assert len(seen) == (partitions if kind is Keys.DUPLICATE else 1)
        registry.dispatch("names", "nobody", lambda entries: 1 / 0)

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: dispatches to multiple keys in parallel")
def test_parallel_dispatch_takes_one_process_per_partition(inside, kind, partitions):
    async def body() -> None:
        others = [
            (await in_another_process(lambda: registry.register("names", "hello", 1)))[0]
            for _ in range(9)
        ]
        seen: list[tuple[Pid, list[tuple[Pid, object]]]] = []

        async def note(entries: list[tuple[Pid, object]]) -> None:
            await asyncio.sleep(0.01)
            seen.append((self_pid(), entries))

        begun = self_pid().runtime.clock()
        await registry.dispatch_parallel("names", "hello", note)
        assert self_pid().runtime.clock() - begun < 0.011
        runners = [pid for pid, _ in seen]
        assert len(set(runners)) == (partitions if kind is Keys.DUPLICATE else 1)
        assert self_pid() not in runners
        assert {entry for _, group in seen for entry in group} == {(pid, 1) for pid in others}
        assert self_pid().linked() == ()

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: unregisters by key")
def test_unregister_removes_all_own_entries_of_a_duplicate_key(inside, kind, partitions):
    async def body() -> None:
        other, _ = await in_another_process(lambda: registry.register("names", "hello", "theirs"))
        for value in (1, 2):
            registry.register("names", "hello", value)
        registry.register("names", "world", 3)
        registry.unregister("names", "hello")
        assert registry.keys("names", self_pid()) == ["world"]
        assert registry.lookup("names", "hello") == [(other, "theirs")]
        assert registry.count("names") == 2

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: unregisters with no entries")
def test_unregister_without_duplicate_entries_is_fine(inside, kind, partitions):
    async def body() -> int:
        registry.unregister("names", "hello")
        return registry.count("names")

    assert inside(body) == 0


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: uses exact complex keys in lookup and match")
def test_composite_keys_are_compared_exactly(inside, kind, partitions):
    async def body() -> None:
        keys = [("zone", 1, ("a", 1.0)), ("zone", 1, ("a", 1)), ("zone", True, ("a", 1.0))]
        keys += [frozenset({1}), frozenset({1.0})]
        for number, key in enumerate(keys):
            registry.register("names", key, number)
        for number, key in enumerate(keys):
            assert registry.lookup("names", key) == [(self_pid(), number)]
            assert registry.match("names", key, lambda value: value >= 0) == [(self_pid(), number)]
            assert registry.count_match("names", key, lambda value: value < 0) == 0

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.otp("Elixir", "d: allows listeners")
def test_listeners_hear_of_duplicate_registrations(runtime, inside, kind, partitions):
    runtime.start(
        Registry("listened", keys=kind, partitions=partitions, listeners=["ear", "nobody"])
    )

    assert len(inside(listened, runtime)) == 3


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: links and unlinks on register/unregister")
def test_link_to_the_partition_lasts_as_long_as_a_duplicate_key(inside, kind, partitions):
    async def body() -> None:
        owner = registry.register("names", "hello", 1)
        registry.register("names", "hello", 2)
        assert partition_links() == [owner.name]
        registry.unregister("names", "hello")
        assert partition_links() == []
        registry.unregister("names", "hello")
        assert partition_links() == []

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: raises on unknown registry name")
def test_unknown_registry_is_named_beside_a_duplicate_one(inside, kind, partitions):
    async def body() -> int:
        await expect_unknown_registry()
        return registry.count("names")

    assert inside(body) == 0


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: raises if attempt to be used on via")
def test_duplicate_registry_cannot_serve_via(runtime, inside, kind, partitions):
    async def body() -> None:
        before = len(list(runtime.runtime.processes()))
        with pytest.raises(RegistryError, match="Via is not supported"):
            gen_server.start(Counter(), name=Via("names", "hello"))
        assert len(list(runtime.runtime.processes())) == before
        with pytest.raises(RegistryError, match="Via is not supported"):
            gen_server.cast(Via("names", "hello"), 1)

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: empty list for empty registry")
def test_empty_duplicate_registry_selects_nothing(inside, kind, partitions):
    async def body() -> list[Entry]:
        return registry.select("names")

    assert inside(body) == []


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: select all")
def test_select_lists_all_duplicate_entries(inside, kind, partitions):
    async def body() -> None:
        for value in (1, 2):
            registry.register("names", "hello", value)
        other, _ = await in_another_process(lambda: registry.register("names", "hello", 3))
        assert set(registry.select("names")) == {
            Entry("hello", self_pid(), 1),
            Entry("hello", self_pid(), 2),
            Entry("hello", other, 3),
        }

    inside(body)


@pytest.mark.otp("Elixir", "d: rejects invalid tuple syntax")
@pytest.mark.parametrize("keys", [("duplicate", "neither"), "many", None])
def test_unknown_kind_of_keys_is_refused(keys):
    with pytest.raises(RegistryError, match="not one of unique, duplicate, duplicate_by_key"):
        Registry("names", keys=keys)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
@pytest.mark.otp("Elixir", "d: update_value is not supported")
def test_update_value_is_refused_for_duplicate_keys(inside, kind, partitions):
    async def body() -> None:
        registry.register("names", "hello", "value")
        with pytest.raises(RegistryError, match="update_value is not supported"):
            registry.update_value("names", "hello", str.upper)
        assert registry.lookup("names", "hello") == [(self_pid(), "value")]

    inside(body)


# What no case of Elixir's suites says.


@pytest.mark.parametrize("partitions", [0, -1, True, "two", 1.0])
def test_number_of_partitions_is_checked(partitions):
    with pytest.raises(RegistryError, match="partitions is"):
        Registry("names", partitions=partitions)


def test_meta_is_stored_read_and_deleted(runtime, inside):
    runtime.start(Registry("names", meta={"limit": 7}))

    async def body() -> None:
        assert registry.meta("names", "limit") == 7
        registry.put_meta("names", ("a", 1), "x")
        assert registry.meta("names", ("a", 1)) == "x"
        assert registry.meta("names", ("a", 1.0), "none") == "none"
        registry.delete_meta("names", "limit")
        assert registry.meta("names", "limit") is None

    inside(body)


@DUPLICATE
@PARTITIONS
@pytest.mark.usefixtures("duplicate")
def test_unregister_match_removes_only_wanted_values(inside, kind, partitions):
    async def body() -> None:
        owner = registry.register("names", "hello", 1)
        registry.register("names", "hello", 2)
        registry.unregister_match("names", "hello", lambda value: value == 1)
        assert registry.values("names", "hello", self_pid()) == [2]
        assert registry.keys("names", self_pid()) == ["hello"]
        registry.unregister_match("names", "hello", lambda value: value == 2)
        assert owner not in self_pid().linked()

    inside(body)


@pytest.mark.parametrize(("kind", "others_die"), [("unique", True), ("duplicate", False)])
def test_partition_that_dies_takes_its_processes_along(runtime, inside, kind, others_die):
    runtime.start(Registry("names", keys=kind, partitions=2))

    async def body() -> None:
        trap_exit()
        holders = [
            (await in_another_process(lambda n=n: registry.register("names", n, n)))[0]
            for n in range(4)
        ]
        victim = registry.register("names", "mine", 0)
        await end(victim, "kill")
        signal = await receive()
        await settle()
        assert signal == Exit(victim, "killed")
        alive = [holder.is_alive() for holder in holders]
        assert alive.count(False) == (4 if others_die else 2)
        assert registry.count("names") == alive.count(True)
        assert registry.register("names", "mine", 0).is_alive()

    inside(body)


def test_registry_is_unknown_once_it_has_stopped(runtime, inside):
    handle = runtime.start(Registry("names"))
    holder = runtime.start(Counter(), Via("names", "counter"))
    handle.exit("shutdown")
    runtime.run_until_idle()

    async def body() -> None:
        with pytest.raises(RegistryError, match="unknown registry"):
            registry.count("names")

    inside(body)
    assert holder.pid.exit_reason == "shutdown"


def test_registries_are_children_by_their_names(runtime, inside):
    runtime.start(
        Supervisor(
            children=[(Registry, "names"), Registry.child_spec(name="others", keys="duplicate")]
        )
    )

    async def body() -> int:
        registry.register("names", "hello")
        return registry.count("names") + registry.count("others")

    assert inside(body) == 1


def test_name_of_a_process_and_via_do_not_mix(runtime):
    runtime.start(Registry("names"))
    counter = runtime.start(Counter(), Via("names", "counter"))
    runtime.runtime.register("counter", counter.pid)

    assert runtime.runtime.whereis("counter") is counter.pid
    assert runtime.runtime.whereis(Via("names", "counter")) is counter.pid
    with pytest.raises(NameTakenError):
        runtime.runtime.register("other", counter.pid)
