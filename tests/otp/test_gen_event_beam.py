"""Random lives of event managers, on a real BEAM and on this runtime: both must answer and tell the same."""

import asyncio
import random
import shutil

import pytest

from otp import (
    CallError,
    EventHandler,
    Exit,
    ExitError,
    GenEventExit,
    HandlerError,
    Raised,
    gen_event,
    receive,
    self_pid,
    send,
    spawn,
    trap_exit,
)
from otp.errors import ReceiveTimeoutError
from otp.gen_event import Ok, RemoveHandler, Reply, Stop, SwapHandler
from otp.testing import VirtualRuntime
from tests.otp.beam.beam import ask_beam, plain

SCENARIOS = 300
SEED = 1
MODULE = "beam_gen_event"
NAMES = [MODULE, (MODULE, "one"), (MODULE, "two")]
INITS = ["ok"] * 6 + ["refuse", "crash"]
REASONS = ["normal", "shutdown", "kill", "sad"]


def scenario(number):
    chance = random.Random(f"{SEED}/{number}")
    steps = [step(chance) for _ in range(chance.randrange(4, 25))]
    return [*steps, "stop"] if chance.random() < 0.7 else steps


def step(chance):
    name, other, init = chance.choice(NAMES), chance.choice(NAMES), chance.choice(INITS)
    args = chance.choice(["args", "boom"])
    acts = ["ok", "ok", "remove", "bad", "crash", "leave"]
    acts.append(("swap", other, "ok" if init == "crash" else init))  # see told
    event = (name, chance.choice(acts))
    return chance.choice(
        [
            *[("add", name, init), ("add_sup", name, init)] * 3,
            ("other_adds", name),
            ("other_leaves", chance.choice(REASONS)),
            *[("notify", event), ("sync_notify", event), ("info", event)] * 2,
            ("call", name, event),
            ("delete", name, args),
            ("swap", name, args, other, init),
            ("swap_sup", name, args, other, init),
        ]
    )


class Handler(EventHandler[tuple]):
    """Does what a message to it says, and tells its owner everything."""

    def __init__(self, name, init, owner):
        self.name = name
        self.start = init
        self.owner = owner

    def init(self):
        return self.begun("nothing")

    def init_swapped(self, handed):
        return self.begun(shown(handed))

    def begun(self, handed):
        self.tell("init", self.name, handed)
        if self.start == "crash":
            raise ValueError("oops")
        return Stop("refused") if self.start == "refuse" else 0

    def handle_event(self, event, count):
        return self.act("event", event, count)

    def handle_info(self, message, count):
        if isinstance(message, Exit):
            self.tell("exit", self.name, count, message.reason)
            return Ok(count)
        return self.act("info", message, count)

    def handle_call(self, request, count):
        match request[1]:
            case "ok":
                return Reply(("reply", count), count)
            case "remove":
                return RemoveHandler("bye")
            case ("swap", new, init):
                return SwapHandler("args", count, made(new, init, self.owner), "swapping")
            case act:
                return self.fail(act)

    def act(self, kind, event, count):
        name, act = event
        if name != self.name:
            return Ok(count)
        self.tell(kind, name, count)
        match act:
            case "ok":
                return Ok(count + 1)
            case "remove":
                return RemoveHandler()
            case ("swap", new, init):
                return SwapHandler("args", count, made(new, init, self.owner))
            case _:
                return self.fail(act)

    def fail(self, act):
        if act == "crash":
            raise ValueError("oops")
        if act == "leave":
            raise ExitError("gone")
        return act

    def terminate(self, args, count):
        self.tell("terminate", self.name, count, shown(args))
        if args == "boom":
            raise ValueError("oops")
        return ("given", self.name, count)

    def tell(self, *what):
        self.owner.send(("seen", what))


def made(name, init, owner):
    handler = Handler(name, init, owner)
    return handler if name == MODULE else (handler, name[1])


def called(name):
    return Handler if name == MODULE else (Handler, name[1])


def named(name):
    return MODULE if name is Handler else (MODULE, name[1])


def shown(term):
    match term:
        case ("EXIT", Raised()):
            return ("EXIT", "raised")
        case ("error", reason):
            return ("error", shown(reason))
        case _:
            return term


class Owner:
    """A process that carries out the steps of a scenario."""

    def __init__(self, steps, seen):
        self.steps = steps
        self.seen = seen
        self.other = None

    async def live(self):
        trap_exit()
        self.manager = gen_event.start()
        self.pid = self_pid()
        for each in self.steps:
            answer = await self.answer(each)
            await self.pid.runtime.loop.create_task(quiet())
            self.seen.append((answer, await self.messages(), await self.handlers()))

    async def answer(self, each):
        try:
            value = await self.step(each)
        except HandlerError as error:
            return ("failed", shown(error.reason))
        except CallError as error:
            return ("exit", error.cause)
        except ExitError as error:
            return ("exit", error.reason)
        return "ok" if value is None else value

    async def step(self, each):  # noqa: C901 - a table
        manager, me = self.manager, self.pid
        match each:
            case ("add", name, init):
                await gen_event.add_handler(manager, made(name, init, me))
            case ("add_sup", name, init):
                await gen_event.add_sup_handler(manager, made(name, init, me))
            case ("other_adds", name):
                await self.other_adds(name)
            case ("other_leaves", reason):
                if self.other is None:
                    return "none"
                self.other.send(("leave", reason))
            case ("notify", event):
                gen_event.notify(manager, event)
            case ("sync_notify", event):
                await gen_event.sync_notify(manager, event)
            case ("info", event):
                send(manager, event)
            case ("call", name, request):
                return await gen_event.call(manager, called(name), request)
            case ("delete", name, args):
                return await gen_event.delete_handler(manager, called(name), args)
            case ("swap" | "swap_sup" as kind, old, args, new, init):
                swap = gen_event.swap_handler if kind == "swap" else gen_event.swap_sup_handler
                await swap(manager, called(old), made(new, init, me), args)
            case "stop":
                await gen_event.stop(manager)
        return None

    async def other_adds(self, name):
        async def other():
            await gen_event.add_sup_handler(self.manager, made(name, "ok", self.pid))
            send(self.pid, "added")
            _, reason = await receive(lambda message: type(message) is tuple)
            raise ExitError(reason)

        self.other = spawn(other)
        await receive(lambda message: message == "added")

    async def messages(self):
        messages = []
        while True:
            try:
                messages.append(self.told(await receive(timeout_s=0)))
            except ReceiveTimeoutError:
                return messages

    def told(self, message):
        match message:
            case ("seen", what):
                return what
            case GenEventExit(handler, ("swapped", new, pid)):
                return ("gen_event_EXIT", named(handler), ("swapped", named(new), self.who(pid)))
            case GenEventExit(handler, "refused"):  # the BEAM's tells "crash", whatever it was
                return ("gen_event_EXIT", named(handler), "crash")
            case GenEventExit(handler, reason):
                return ("gen_event_EXIT", named(handler), shown(reason))
            case Exit(pid, reason):
                return ("EXIT", self.who(pid), reason)

    def who(self, pid):
        return {self.pid: "owner", self.manager: "manager"}.get(pid, "other")

    async def handlers(self):
        try:
            return [named(name) for name in await gen_event.which_handlers(self.manager)]
        except CallError:
            return "stopped"


async def quiet():
    """Wait until nobody has anything to do: the virtual clock only moves on then."""
    await asyncio.sleep(1e-3)


def run_here(steps):
    runtime = VirtualRuntime()
    seen = []
    runtime.runtime.spawn(Owner(steps, seen).live)
    runtime.advance(60.0)
    runtime.close()
    assert len(seen) == len(steps)
    return plain(seen)


@pytest.mark.skipif(shutil.which("erl") is None, reason="there is no BEAM here")
def test_managers_live_as_they_do_on_the_beam(tmp_path):
    scenarios = [scenario(number) for number in range(SCENARIOS)]
    there = ask_beam(MODULE, scenarios, tmp_path)

    for steps, seen in zip(scenarios, there, strict=True):
        assert run_here(steps) == seen, steps


def test_scenarios_reach_every_corner():
    seen = str([run_here(scenario(number)) for number in range(SCENARIOS)])

    for word in ("bad_module", "module_not_found", "swapping", "given", "crash", "raised", "gone"):
        assert f"'{word}'" in seen
    for word in ("stopped", "refused", "shutdown", "swapped", "stop", "exit", "owner"):
        assert f"'{word}'" in seen
