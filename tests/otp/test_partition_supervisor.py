import asyncio
from typing import Any

import pytest

from otp import (
    CallResult,
    ChildSpec,
    ChildSpecError,
    GenServer,
    NoProcessError,
    NoReply,
    Pid,
    Reply,
    Restart,
    Result,
    gen_server,
    partition_supervisor,
    registry,
    self_pid,
    spawn,
)
from otp.partition_supervisor import PartitionError, PartitionSupervisor, PartitionVia
from otp.registry import Registry, Via


class Keeper(GenServer[list[object]]):
    """Keeps what it is cast; answers with its number and what it keeps."""

    def __init__(self, number: int, *, slow_s: float = 0.0) -> None:
        self.number = number
        self.slow_s = slow_s

    def init(self) -> list[object]:
        self.trap_exit()
        return []

    def handle_call(
        self, request: Any, from_: Any, state: list[object]
    ) -> CallResult[list[object]]:
        return Reply((self.number, tuple(state)), state)

    def handle_cast(self, request: Any, state: list[object]) -> Result[list[object]]:
        state.append(request)
        return NoReply(state)

    async def terminate(self, reason: object, state: list[object]) -> None:
        await asyncio.sleep(self.slow_s)


def keeper(number: int, slow_s: float = 0.0) -> ChildSpec:
    return ChildSpec(
        "any", lambda: gen_server.start_link(Keeper(number, slow_s=slow_s)), shutdown_s=60.0
    )


@pytest.fixture
def four(runtime):
    return runtime.start(PartitionSupervisor("keepers", keeper, partitions=4))


def held(runtime: Any) -> list[Pid | None]:
    return list(runtime.runtime.tables["partition_supervisor", "keepers"].pids)


@pytest.mark.usefixtures("four")
def test_int_key_goes_by_its_remainder(inside):
    async def body() -> list[int]:
        numbers = []
        for key in (0, 1, 5, -3, 4, 7):
            number, _ = await gen_server.call(PartitionVia("keepers", key), "who")
            numbers.append(number)
        return numbers

    assert inside(body) == [0, 1, 1, 3, 0, 3]


@pytest.mark.usefixtures("four")
def test_other_keys_spread_and_always_meet_the_same_partition(inside):
    async def body() -> None:
        keys = [f"key-{number}" for number in range(40)] + [("zone", n) for n in range(40)]
        for key in keys * 2:
            gen_server.cast(PartitionVia("keepers", key), key)
        kept = [(await gen_server.call(PartitionVia("keepers", n), "all"))[1] for n in range(4)]
        assert sorted(len(each) > 8 for each in kept) == [True] * 4
        assert sum(len(set(each)) for each in kept) == len(keys)

    inside(body)


def test_same_child_spec_serves_all_partitions(runtime, inside):
    spec = ChildSpec("x", lambda: gen_server.start_link(Keeper(9)), restart=Restart.TRANSIENT)
    runtime.start(PartitionSupervisor("keepers", spec, partitions=3))

    async def body() -> None:
        infos = await partition_supervisor.which_children("keepers")
        assert [info.id for info in infos] == [2, 1, 0]
        assert len({info.pid for info in infos}) == 3
        counts = await partition_supervisor.count_children("keepers")
        assert (counts.specs, counts.active, counts.workers) == (3, 3, 3)
        assert partition_supervisor.partitions("keepers") == 3

    inside(body)


@pytest.mark.parametrize("form", [(Keeper, 5), lambda number: (Keeper, number + 5)])
def test_child_spec_may_have_any_form(runtime, inside, form):
    runtime.start(PartitionSupervisor("keepers", form, partitions=2))

    async def body() -> int:
        number, _ = await gen_server.call(PartitionVia("keepers", 0), "who")
        return number

    assert inside(body) == 5


def test_restarted_partition_is_found_again(runtime, inside, four):
    before = held(runtime)
    runtime.runtime.exit(before[2], "kill")
    runtime.run_until_idle()

    after = held(runtime)
    assert [old is new for old, new in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        True,
    ]
    assert runtime.runtime.whereis(PartitionVia("keepers", 2)) is after[2]
    assert four.is_alive()


@pytest.mark.usefixtures("four")
def test_resize_stops_the_last_and_starts_them_again(inside, runtime):
    async def body() -> None:
        pids = held(runtime)
        assert await partition_supervisor.resize("keepers", 2) == 4
        assert [pid.is_alive() for pid in pids] == [True, True, False, False]
        assert partition_supervisor.partitions("keepers") == 2
        assert (await gen_server.call(PartitionVia("keepers", 3), "who"))[0] == 1
        assert await partition_supervisor.resize("keepers", 2) == 2
        assert await partition_supervisor.resize("keepers", 4) == 2
        assert (await gen_server.call(PartitionVia("keepers", 3), "who"))[0] == 3
        assert held(runtime)[:2] == pids[:2]

    inside(body)


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("size", [-1, 5, "two", None])
def test_resize_beyond_its_limits_is_refused(inside, size):
    async def body() -> int:
        with pytest.raises(PartitionError, match="can have 0 to 4 partitions"):
            await partition_supervisor.resize("keepers", size)
        return partition_supervisor.partitions("keepers")

    assert inside(body) == 4


@pytest.mark.usefixtures("four")
def test_lookup_with_zero_partitions_raises(inside):
    async def body() -> None:
        assert await partition_supervisor.resize("keepers", 0) == 4
        with pytest.raises(PartitionError, match="has zero partitions"):
            gen_server.cast(PartitionVia("keepers", 1), "x")
        assert await partition_supervisor.resize("keepers", 1) == 0
        assert (await gen_server.call(PartitionVia("keepers", 3), "who"))[0] == 0

    inside(body)


def test_resizes_go_one_by_one_even_if_a_waiter_dies(runtime, inside):
    blueprint = PartitionSupervisor("keepers", lambda n: keeper(n, 1.0), partitions=3)
    runtime.start(blueprint)
    done: list[tuple[str, int]] = []

    async def resizer(name: str, size: int) -> None:
        done.append((name, await partition_supervisor.resize("keepers", size)))

    async def body() -> None:
        spawn(resizer, "shrinks", 1)
        waiting = spawn(resizer, "dies", 0)
        spawn(resizer, "grows", 3)
        await asyncio.sleep(0.5)
        waiting.exit_signal(None, "kill")
        await asyncio.sleep(0.5)
        assert done == []
        await asyncio.sleep(2.0)
        assert done == [("shrinks", 3), ("grows", 1)]
        assert all(pid is not None and pid.is_alive() for pid in held(runtime))

    inside(body)


def test_resize_goes_on_after_the_resizer_was_killed(runtime, inside):
    blueprint = PartitionSupervisor("keepers", lambda n: keeper(n, 1.0), partitions=3)
    runtime.start(blueprint)

    async def body() -> None:
        async def shrink() -> None:
            await partition_supervisor.resize("keepers", 2)

        first = spawn(shrink)
        await asyncio.sleep(0.5)
        first.exit_signal(None, "kill")
        assert await partition_supervisor.resize("keepers", 3) == 2
        assert (await gen_server.call(PartitionVia("keepers", 2), "who"))[0] == 2

    inside(body)


def test_partition_supervisor_may_have_a_via_name(runtime, inside):
    runtime.start(Registry("names"))
    name = Via("names", "keepers")
    runtime.start(PartitionSupervisor(name, keeper, partitions=2))

    async def body() -> None:
        assert (await gen_server.call(PartitionVia(name, 5), "who"))[0] == 1
        assert await partition_supervisor.resize(name, 1) == 2
        assert registry.whereis("names", "keepers") is not None

    inside(body)


def test_unknown_partition_supervisor_is_noproc(inside):
    async def body() -> None:
        with pytest.raises(NoProcessError):
            partition_supervisor.partitions("nobody")
        with pytest.raises(NoProcessError):
            gen_server.cast(PartitionVia("nobody", 1), "x")
        with pytest.raises(NoProcessError):
            await partition_supervisor.resize("nobody", 1)

    inside(body)


def test_table_goes_with_its_supervisor(runtime, inside, four):
    four.exit("shutdown")
    runtime.run_until_idle()

    async def body() -> None:
        with pytest.raises(NoProcessError):
            partition_supervisor.partitions("keepers")

    inside(body)


def test_nothing_can_be_started_under_a_partition_via(inside, four, runtime):
    async def body() -> None:
        before = len(list(runtime.runtime.processes()))
        with pytest.raises(Exception, match="already_started"):
            gen_server.start(Keeper(7), name=PartitionVia("keepers", 1))
        assert len(list(runtime.runtime.processes())) == before
        with pytest.raises(PartitionError, match="cannot be unregistered"):
            runtime.runtime.unregister(PartitionVia("keepers", 1))

    inside(body)
    assert four.is_alive()


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "two"])
def test_bad_number_of_partitions_raises_in_the_caller(count):
    with pytest.raises(PartitionError, match="not a number >= 1"):
        PartitionSupervisor("keepers", keeper, partitions=count)


@pytest.mark.parametrize("template", ["spec", lambda number: number])
def test_bad_child_spec_raises_in_the_caller(template):
    with pytest.raises(ChildSpecError, match="no ChildSpec"):
        PartitionSupervisor("keepers", template, partitions=2)


def test_start_link_links_to_the_caller(inside):
    async def body() -> None:
        pid = await partition_supervisor.start_link("keepers", keeper, partitions=2)
        assert pid in self_pid().linked()
        assert partition_supervisor.partitions("keepers") == 2

    inside(body)
