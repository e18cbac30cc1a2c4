import asyncio
from typing import Any

import pytest

from otp import (
    ChildSpec,
    ExitError,
    GenServer,
    NoProcessError,
    Pid,
    Result,
    StartError,
    Supervisor,
    SupervisorFlags,
    application,
    gen_server,
    receive,
    spawn,
    supervisor,
)
from otp.application import (
    Application,
    ApplicationController,
    ApplicationError,
    ApplicationInfo,
    ApplicationSpec,
    RestartType,
)
from otp.exit_reason import Raised


class Worker(GenServer[str]):
    """Traces its life; dies of what it is cast."""

    def __init__(self, trace: list[str], name: str, fails: BaseException | None = None) -> None:
        self.trace = trace
        self.name = name
        self.fails = fails

    def init(self) -> str:
        if self.fails is not None:
            raise self.fails
        self.trap_exit()
        self.trace.append(f"start {self.name}")
        return self.name

    def handle_cast(self, request: Any, state: str) -> Result[str]:
        raise ExitError(request)

    def terminate(self, reason: object, state: str) -> None:
        self.trace.append(f"stop {self.name}")


class Shop(Application):
    """An application of one worker, that traces its callbacks."""

    def __init__(self, trace: list[str], name: str, *, fails: BaseException | None = None) -> None:
        self.trace = trace
        self.name = name
        self.fails = fails
        self.top: Pid | None = None
        self.worker: Pid | None = None
        self.stray: Pid | None = None
        self.seen: list[object] = []

    def start(self, kind: Any, args: Any) -> Any:
        self.seen.append((kind.value, args, application.get_application()))

        def start() -> Pid:
            self.worker = gen_server.start_link(Worker(self.trace, self.name, self.fails))
            return self.worker

        async def forever() -> None:
            await receive(lambda message: message == "end")

        self.stray = spawn(forever)
        flags = SupervisorFlags(intensity=0)
        self.top = supervisor.start_link(flags, [ChildSpec("worker", start)])
        return self.top, "state"

    async def start_phase(self, phase: str, kind: Any, args: Any) -> None:
        await asyncio.sleep(1.0)
        self.trace.append(f"phase {phase} {args}")

    def prep_stop(self, state: str) -> str:
        self.trace.append(f"prep_stop {self.name}")
        return f"prepared {state}"

    def stop(self, state: str) -> None:
        self.trace.append(f"stopped {self.name}: {state}")


@pytest.fixture
def controller(runtime):
    return runtime.start(
        ApplicationController({"shop": {"limit": 7, "extra": True}}, shutdown_timeout_s=30.0)
    )


@pytest.fixture
def trace(controller) -> list[str]:
    return []


def spec(shop: Shop, *needs: str, **more: Any) -> ApplicationSpec:
    return ApplicationSpec(name=shop.name, mod=(shop, ["args"]), applications=needs, **more)


async def refused(call: Any) -> object:
    with pytest.raises(ApplicationError) as error:
        await call
    return error.value.reason


def test_application_starts_its_tree_and_stops_it_in_order(inside, trace):
    shop = Shop(trace, "shop")

    async def body() -> None:
        await application.load(spec(shop))
        await application.start("shop")
        assert shop.seen == [("normal", ["args"], "shop")]
        assert [info.name for info in await application.which_applications()] == ["shop"]
        await application.stop("shop")
        assert await application.which_applications() == []
        assert shop.top.exit_reason == "shutdown"

    inside(body)
    assert trace == [
        "start shop",
        "prep_stop shop",
        "stop shop",
        "stopped shop: prepared state",
    ]


def test_start_phases_follow_the_start(inside, trace):
    shop = Shop(trace, "shop")

    async def body() -> None:
        await application.load(spec(shop, start_phases=(("open", 1), ("greet", 2))))
        await application.start("shop")

    inside(body)
    assert trace == ["start shop", "phase open 1", "phase greet 2"]


def test_processes_know_their_application_and_none_outlives_it(inside, trace):
    shop = Shop(trace, "shop")

    async def body() -> None:
        await application.load(spec(shop))
        await application.start("shop")
        for pid in (shop.top, shop.worker, shop.stray):
            assert application.get_application(pid) == "shop"
        assert application.get_application() is None
        assert shop.stray.is_alive()
        await application.stop("shop")
        assert shop.stray.exit_reason == "killed"
        assert application.get_application(shop.stray) is None

    inside(body)


@pytest.mark.usefixtures("controller")
def test_loading_and_unloading_have_otps_errors(inside):
    async def body() -> None:
        library = ApplicationSpec(name="lib", description="a library", vsn="1.2")
        assert await refused(application.start("lib")) == ("not_loaded", "lib")
        assert await refused(application.unload("lib")) == ("not_loaded", "lib")
        await application.load(library)
        assert await refused(application.load(library)) == ("already_loaded", "lib")
        assert await refused(application.stop("lib")) == ("not_started", "lib")
        await application.start("lib")
        assert await refused(application.start("lib")) == ("already_started", "lib")
        await application.ensure_started("lib")
        assert await application.which_applications() == [
            ApplicationInfo("lib", "a library", "1.2")
        ]
        assert await refused(application.unload("lib")) == ("running", "lib")
        await application.stop("lib")
        await application.unload("lib")
        assert await application.loaded_applications() == []

    inside(body)


def test_start_does_not_start_what_is_needed(inside, trace):
    async def body() -> None:
        await application.load(spec(Shop(trace, "db")))
        await application.load(spec(Shop(trace, "shop"), "db"))
        assert await refused(application.start("shop")) == ("not_started", "db")
        await application.start("db")
        await application.start("shop")
        assert [info.name for info in await application.which_applications()] == ["shop", "db"]

    inside(body)
    assert trace == ["start db", "start shop"]


def test_ensure_all_started_goes_depth_first(inside, trace):
    async def body() -> None:
        await application.load(spec(Shop(trace, "disk")))
        await application.load(spec(Shop(trace, "db"), "disk"))
        await application.load(spec(Shop(trace, "web")))
        await application.load(
            spec(Shop(trace, "shop"), "web", "db", "gone", optional_applications=("gone",))
        )
        await application.start("web")
        assert await application.ensure_all_started("shop") == ["disk", "db", "shop"]
        assert await application.ensure_all_started("shop") == []

    inside(body)
    assert trace == ["start web", "start disk", "start db", "start shop"]


def test_ensure_all_started_stops_what_it_started_when_one_fails(inside, trace):
    async def body() -> None:
        await application.load(spec(Shop(trace, "disk")))
        await application.load(spec(Shop(trace, "db"), "disk"))
        await application.load(spec(Shop(trace, "shop"), "db", "missing"))
        reason = await refused(application.ensure_all_started("shop"))
        assert reason == ("missing", ("not_loaded", "missing"))
        assert await application.which_applications() == []

    inside(body)
    stops = [line for line in trace if line.startswith("stop ")]
    assert stops == ["stop db", "stop disk"]


def test_circular_needs_are_refused(inside, trace):
    async def body() -> object:
        await application.load(spec(Shop(trace, "a"), "b"))
        await application.load(spec(Shop(trace, "b"), "a"))
        return await refused(application.ensure_all_started("a"))

    assert inside(body) == ("a", ("circular", ["a", "b", "a"]))


@pytest.mark.otp("supervisor_SUITE", "faulty_application_shutdown")
def test_application_whose_child_crashes_in_init_fails_with_the_nested_reason(inside, trace):
    class Faulty(Shop):
        def start(self, kind: Any, args: Any) -> Any:
            def start_inner() -> Pid:
                return supervisor.start_link(
                    SupervisorFlags(),
                    [
                        ChildSpec(
                            "server", lambda: gen_server.start_link(Worker([], "x", self.fails))
                        )
                    ],
                )

            outer = ChildSpec("inner", start_inner, type="supervisor")
            return supervisor.start_link(SupervisorFlags(), [outer])

    shop = Faulty(trace, "shop", fails=ZeroDivisionError("undef"))

    async def body() -> object:
        await application.load(spec(shop))
        reason = await refused(application.start("shop"))
        assert await application.which_applications() == []
        await refused(application.stop("shop"))
        return reason

    reason, where = inside(body)
    assert where == (Faulty.__qualname__, "start", ["normal", ["args"]])
    assert reason[:1] == ("shutdown",)
    assert reason[1][:2] == ("failed_to_start_child", "inner")
    nested = reason[1][2]
    assert nested[0] == "shutdown"
    assert nested[1][:2] == ("failed_to_start_child", "server")
    assert isinstance(nested[1][2], Raised)
    assert nested[1][2].error is shop.fails


class Odd(Application):
    """Starts in some wrong way."""

    def __init__(self, how: Any) -> None:
        self.how = how
        self.child: Pid | None = None

    def start(self, kind: Any, args: Any) -> Any:
        async def forever() -> None:
            await receive(lambda message: message == "end")

        self.child = spawn(forever)
        if isinstance(self.how, BaseException):
            raise self.how
        return self.how


def test_start_that_refuses_gives_its_reason(inside, trace):
    odd = Odd(StartError("no licence"))

    async def body() -> object:
        await application.load(ApplicationSpec(name="odd", mod=(odd, 1)))
        return await refused(application.start("odd"))

    assert inside(body) == ("no licence", ("Odd", "start", ["normal", 1]))
    assert odd.child.exit_reason == "killed"


def test_start_that_returns_nonsense_or_raises_is_a_bad_return(inside, trace):
    async def body(how: Any) -> object:
        await application.load(ApplicationSpec(name="odd", mod=(Odd(how), 1)))
        reason = await refused(application.start("odd"))
        await application.unload("odd")
        return reason

    where = ("Odd", "start", ["normal", 1])
    assert inside(body, 42) == ("bad_return", (where, 42))
    kind, (place, (exit_, raised)) = inside(body, ValueError("x"))
    assert (kind, place, exit_) == ("bad_return", where, "EXIT")
    assert str(raised.error) == "x"


def test_start_while_starting_waits_for_the_same_outcome(inside, trace):
    shop = Shop(trace, "shop")
    heard: list[str] = []

    async def starter(name: str) -> None:
        await application.start("shop")
        heard.append(name)

    async def body() -> None:
        await application.load(spec(shop, start_phases=(("open", 1),)))
        for name in "ab":
            spawn(starter, name)
        await asyncio.sleep(0.5)
        assert heard == []
        await asyncio.sleep(1.0)
        assert heard == ["a", "b"]

    inside(body)
    assert trace.count("start shop") == 1


ENDS = [
    (RestartType.PERMANENT, "normal", False),
    (RestartType.PERMANENT, "crash", False),
    (RestartType.TRANSIENT, "normal", True),
    (RestartType.TRANSIENT, "shutdown", False),
    (RestartType.TEMPORARY, "crash", True),
]


@pytest.mark.parametrize(("restart", "reason", "goes_on"), ENDS)
def test_end_of_an_application_means_what_its_restart_type_says(
    inside, controller, trace, *, restart, reason, goes_on
):
    class Plain(Shop):
        def start(self, kind: Any, args: Any) -> Any:
            self.top = gen_server.start_link(Ender())
            return self.top

    shop, other = Plain(trace, "shop"), Shop(trace, "other")

    async def body() -> None:
        for each in (shop, other):
            await application.load(spec(each))
        await application.start("other")
        await application.start("shop", restart)
        shop.top.cast(reason)
        await asyncio.sleep(1.0)

    inside(body)
    assert controller.is_alive() is goes_on
    assert other.top.is_alive() is goes_on
    assert "stopped shop: None" in trace
    assert "prep_stop shop" not in trace
    if not goes_on:
        assert controller.pid.exit_reason == ("application_terminated", "shop", reason)
        assert trace[-1] == "stopped other: prepared state"


class Ender(GenServer[None]):
    """Ends with the reason it is cast."""

    def init(self) -> None:
        return None

    def handle_cast(self, request: Any, state: None) -> Result[None]:
        raise ExitError(request)


def test_permanent_application_stopped_by_hand_affects_nothing(inside, controller, trace):
    async def body() -> None:
        for name in ("shop", "other"):
            await application.load(spec(Shop(trace, name)))
            await application.start(name, RestartType.PERMANENT)
        await application.stop("shop")
        assert [info.name for info in await application.which_applications()] == ["other"]

    inside(body)
    assert controller.is_alive()


def test_controller_stops_everything_newest_first(runtime, inside, controller, trace):
    async def body() -> None:
        for name in ("a", "b", "c"):
            await application.load(spec(Shop(trace, name)))
            await application.start(name)

    inside(body)
    controller.exit("shutdown")
    runtime.run_until_idle()
    assert [line for line in trace if line.startswith("stop ")] == ["stop c", "stop b", "stop a"]
    assert list(runtime.runtime.processes()) == []


def test_application_that_does_not_stop_in_time_is_killed(runtime, inside, controller, trace):
    class Stuck(Shop):
        async def prep_stop(self, state: str) -> str:  # type: ignore[override]
            await asyncio.sleep(1e6)
            return state

    shop = Stuck(trace, "shop")

    async def body() -> None:
        await application.load(spec(shop))
        await application.start("shop")

    inside(body)
    controller.exit("shutdown")
    runtime.advance(29.0)
    assert shop.worker.is_alive()
    runtime.advance(2.0)
    assert shop.worker.exit_reason == "killed"
    assert list(runtime.runtime.processes()) == []


def test_failing_stop_callbacks_do_not_keep_the_tree(inside, trace, caplog):
    class Failing(Shop):
        def prep_stop(self, state: str) -> str:
            raise ValueError("prep_stop")

        def stop(self, state: str) -> None:
            raise ValueError(state)

    shop = Failing(trace, "shop")

    async def body() -> None:
        await application.load(spec(shop))
        await application.start("shop")
        await application.stop("shop")

    inside(body)
    assert shop.top.exit_reason == "shutdown"
    assert [record.getMessage() for record in caplog.records] == [
        "application shop: prep_stop failed",
        "application shop: stop failed",
    ]


@pytest.mark.usefixtures("controller")
def test_configuration_overrides_the_spec_and_is_changed_at_run_time(inside):
    shop = ApplicationSpec(name="shop", env={"limit": 1, "name": "corner"})

    async def body() -> None:
        assert application.get_env("shop", "limit", "none") == "none"
        await application.load(shop)
        assert application.get_all_env("shop") == {"limit": 7, "name": "corner", "extra": True}
        application.set_env("shop", "name", "market")
        application.set_env("shop", "limit", 9, persistent=True)
        application.unset_env("shop", "extra")
        assert application.get_all_env("shop") == {"limit": 9, "name": "market"}
        await application.unload("shop")
        assert application.get_all_env("shop") == {}
        await application.load(shop)
        assert application.get_env("shop", "limit") == 9
        assert application.get_env("shop", "name") == "corner"

    inside(body)


def test_without_a_controller_there_is_no_process(inside):
    async def body() -> None:
        with pytest.raises(NoProcessError):
            await application.start("shop")
        with pytest.raises(NoProcessError):
            application.get_env("shop", "limit")

    inside(body)


@pytest.mark.parametrize(
    "fields",
    [{"name": ""}, {"name": "x", "mod": Supervisor()}, {"name": "x", "optional_applications": "y"}],
)
def test_bad_specification_is_refused(fields):
    with pytest.raises(ApplicationError, match="bad_application"):
        ApplicationSpec(**fields)
