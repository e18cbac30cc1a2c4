import pytest

from otp import NoProcessError, OtpError, Pid, pg, receive, self_pid, send, spawn
from otp.pg import Change, GroupChange, NotJoinedError


@pytest.fixture(autouse=True)
def scope(runtime):
    return runtime.start(pg.Scope())


async def member() -> None:
    await receive(lambda message: message == "stop")


async def messages() -> list[object]:
    """Everything that arrives while nothing else happens."""
    found: list[object] = []
    while True:
        try:
            found.append(await receive(timeout_s=0.001))
        except OtpError:
            return found


async def stopped(pid: Pid) -> None:
    wait = pid.runtime.exited(pid)
    send(pid, "stop")
    await wait


def test_members_are_listed_as_often_as_they_joined(inside):
    async def body() -> None:
        one, two = spawn(member), spawn(member)
        await pg.join("g", one)
        await pg.join("g", [one, two])
        assert sorted(pg.get_members("g"), key=repr) == [one, one, two]
        await pg.leave("g", one)
        assert sorted(pg.get_members("g"), key=repr) == [one, two]

    inside(body)


def test_group_exists_as_long_as_it_has_members(inside):
    async def body() -> None:
        one = spawn(member)
        assert pg.which_groups() == []
        await pg.join("g", one)
        await pg.join("h", one)
        assert pg.which_groups() == ["g", "h"]
        await pg.leave("g", one)
        assert pg.which_groups() == ["h"]
        assert pg.get_members("g") == pg.get_members("never heard of") == []

    inside(body)


def test_leaving_a_group_one_is_not_in_is_refused(inside):
    async def body() -> None:
        one = spawn(member)
        await pg.join("g", one)
        for group, pids in (("g", self_pid()), ("nobody", one), ("g", [])):
            with pytest.raises(NotJoinedError):
                await pg.leave(group, pids)
        await pg.leave("g", [one, self_pid()])
        assert pg.get_members("g") == []

    inside(body)


def test_process_that_ends_leaves_all_its_groups(inside, scope):
    async def body() -> None:
        one, two = spawn(member), spawn(member)
        for group in ("g", "g", "h"):
            await pg.join(group, one)
        await pg.join("g", two)
        await stopped(one)
        await messages()
        assert pg.get_members("g") == [two]
        assert pg.which_groups() == ["g"]
        await pg.leave("g", two)
        assert scope.pid.monitoring() == ()

    inside(body)


def test_monitor_hears_joins_and_leaves_in_order(inside):
    async def body() -> None:
        one, two = spawn(member), spawn(member)
        await pg.join("g", one)
        whole, before = await pg.monitor_scope()
        mark, present = await pg.monitor("g")
        assert (present, before) == ([one], {"g": [one]})
        await pg.join("g", [one, two])
        await pg.join("h", two)
        await pg.leave("g", one)
        await stopped(one)
        assert await messages() == [
            GroupChange(whole, Change.JOIN, "g", (one, two)),
            GroupChange(mark, Change.JOIN, "g", (one, two)),
            GroupChange(whole, Change.JOIN, "h", (two,)),
            GroupChange(whole, Change.LEAVE, "g", (one,)),
            GroupChange(mark, Change.LEAVE, "g", (one,)),
            GroupChange(whole, Change.LEAVE, "g", (one,)),
            GroupChange(mark, Change.LEAVE, "g", (one,)),
        ]

    inside(body)


def test_process_that_ends_leaves_once_for_each_join(inside):
    async def body() -> None:
        one = spawn(member)
        mark, _ = await pg.monitor("g")
        await pg.join("g", [one, one])
        await stopped(one)
        assert await messages() == [
            GroupChange(mark, Change.JOIN, "g", (one, one)),
            GroupChange(mark, Change.LEAVE, "g", (one,)),
            GroupChange(mark, Change.LEAVE, "g", (one,)),
        ]

    inside(body)


def test_dead_process_joins_and_leaves_at_once(inside):
    async def body() -> None:
        one = spawn(member)
        await stopped(one)
        mark, _ = await pg.monitor("g")
        await pg.join("g", one)
        assert await messages() == [
            GroupChange(mark, Change.JOIN, "g", (one,)),
            GroupChange(mark, Change.LEAVE, "g", (one,)),
        ]
        assert pg.which_groups() == []

    inside(body)


def test_demonitor_removes_what_the_monitor_sent(inside):
    async def body() -> None:
        kept, _ = await pg.monitor("g")
        mark, _ = await pg.monitor("g")
        await pg.join("g", self_pid())
        assert await pg.demonitor(mark)
        assert not await pg.demonitor(mark)
        await pg.leave("g", self_pid())
        assert await messages() == [
            GroupChange(kept, Change.JOIN, "g", (self_pid(),)),
            GroupChange(kept, Change.LEAVE, "g", (self_pid(),)),
        ]

    inside(body)


def test_monitor_ends_with_its_owner(inside, scope):
    async def body() -> None:
        await pg.monitor("g")

    inside(body)
    assert scope.pid.monitoring() == ()


def test_groups_are_named_exactly_and_scopes_are_apart(inside, runtime):
    runtime.start(pg.Scope("other"))

    async def body() -> None:
        await pg.join(1, self_pid())
        await pg.join(1.0, self_pid(), scope="other")
        assert pg.get_members(1.0) == pg.get_members(True) == []
        assert pg.get_members(1.0, scope="other") == [self_pid()]
        assert pg.get_members(1, scope="nowhere") == pg.which_groups(scope="nowhere") == []
        with pytest.raises(NoProcessError):
            await pg.join(1, self_pid(), scope="nowhere")
        with pytest.raises(OtpError, match="only processes"):
            await pg.join(1, ["self"])  # type: ignore[list-item]

    inside(body)


def test_groups_are_gone_when_the_scope_ends(inside, scope):
    async def body() -> None:
        await pg.join("g", self_pid())
        scope.exit("shutdown")
        await messages()
        assert pg.which_groups() == []
        assert self_pid().linked() == ()

    inside(body)
