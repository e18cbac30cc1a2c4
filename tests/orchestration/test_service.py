"""The orchestrator with its gateway and dispatchers, over real links, against nodes that follow a script."""

import asyncio
import os
import secrets
import shutil
import time
from contextlib import aclosing
from itertools import count

import msgspec
import pytest

from config import Infrastructure, Pod, Region, Resource, Template, Zone
from orchestration.figures import Figures
from orchestration.journal.sqlite import SqliteJournal
from orchestration.problems import ProblemError
from orchestration.records import CommandSpec, OnFailure, UnitSpec, UnitState
from orchestration.recovery import POD_LOSSES_LIMIT
from orchestration.service import Orchestrator
from orchestration.state_folder import StateFolder
from otp import Runtime
from otp.distribution.link import Dialer, Hello
from rpc.messages import (
    PROTOCOL,
    Ack,
    Cancel,
    Crashed,
    Define,
    Dispatch,
    Fault,
    Finished,
    Inventory,
    NodeLost,
    PodStats,
    Progress,
    Ready,
    Report,
    ResourceInventory,
    ResourceState,
    Retire,
    Retired,
    Settled,
    SetTree,
    Started,
    Stats,
    Suspect,
    Welcome,
    decode_down,
    encode,
)

RACK = "eu/a/r1"


def infrastructure(*names, pods=("r1",), templates=("x-*",)):
    made = tuple(
        Pod(
            name=pod,
            mailbox=4,
            resources=tuple(Resource(name=n, kind="vm", driver="simulated") for n in names),
            templates=tuple(Template(pattern=p, kind="vm", driver="simulated") for p in templates),
        )
        for pod in pods
    )
    zones = (Zone(name="a", pods=made),) if pods else ()
    return Infrastructure(name="test", regions=(Region(name="eu", zones=zones),))


class Tier:
    """One orchestration node, which can be killed and started again on its journal."""

    def __init__(self, path):
        self.folder = StateFolder(path)
        self.folder.prepare()
        self.nodes = []

    async def start(self):
        loop = asyncio.get_running_loop()
        figures = Figures(time.monotonic)
        self.journal = SqliteJournal(self.folder.journal)
        self.service = Orchestrator(
            self.journal, Runtime(loop=loop), figures=figures, folder=self.folder
        )
        self.gateway = self.service.start()
        await self.gateway.start(self.folder.orchestration_socket, self.folder.read_cookie())
        return self.service

    async def restart(self):
        await self.service.stop()
        return await self.start()

    def node(self, name, kind, epoch=()):
        made = Node(self.folder, name, kind, epoch)
        self.nodes.append(made)
        return made

    async def automation(self, *pods):
        """A root and `pods` that are let in."""
        root = self.node("root", "root")
        await root.saw(Welcome)
        made = [self.node(pod, "pod", (root.epoch[0], 1, 1)) for pod in pods]
        for each in made:
            await each.saw(Define)
        return root, *made

    async def stop(self):
        for node in self.nodes:
            node.close()
        await self.service.stop()
        shutil.rmtree(self.folder.run, ignore_errors=True)


class Node:
    """A node that does what it is told; `on_dispatch` is its script."""

    def __init__(self, folder, name, kind, epoch):
        self.epoch = epoch
        self.name = name
        self.unacked = {}
        self.last = 0
        self.revision = 0
        self.resources = {}
        self.held = {}
        self.messages = []
        self.link = None
        self.on_dispatch = self.succeed
        self.retires_by_hand = False
        self._grown = asyncio.Event()
        incarnation = secrets.token_hex(4)
        self.dialer = Dialer(
            folder.orchestration_socket,
            me=lambda: Hello(name, kind, os.getpid(), self.epoch, PROTOCOL, incarnation),
            cookie=folder.read_cookie(),
            encode=encode,
            decode=decode_down,
            connected=self.connected,
        )

    def close(self):
        self.dialer.close()

    def connected(self, link):
        self.link = link
        there = tuple(
            ResourceInventory(path, epoch, "ready", tuple(self.held.get(path, ())))
            for path, epoch in self.resources.items()
        )
        link.send(Inventory(there, self.last, self.revision))
        link.send(Stats(PodStats(verbs={"simulated": ("set", "create")})))
        link.send_many([Report(seq, 0.0, body) for seq, body in self.unacked.items()])
        return self

    def lost(self, link, reason):
        self.link = None

    def received(self, link, messages):
        for message in messages:
            self.messages.append(message)
            match message:
                case Welcome(root_epoch):
                    self.epoch = (root_epoch,)
                case Ack(seq):
                    self.unacked = {n: body for n, body in self.unacked.items() if n > seq}
                case Define(revision, resources):
                    self.revision = revision
                    self.define(resources)
                case Retire(_, paths):
                    self.retire(paths)
                case Dispatch():
                    self.on_dispatch(message)
        self._grown.set()

    def retire(self, paths):
        for path in () if self.retires_by_hand else paths:
            self.resources.pop(path, None)
            self.report(Retired(path, ()))

    def define(self, resources):
        for each in resources:
            if each.path not in self.resources:
                self.resources[each.path] = (*self.epoch, 1)
                settled = tuple(Settled(unit.id, unit.attempt, 0) for unit in each.doubt)
                self.report(Ready(each.path, self.resources[each.path], {}, False, settled))

    def report(self, body):
        self.last += 1
        self.unacked[self.last] = body
        if self.link is not None:
            self.link.send(Report(self.last, 0.0, body))

    def start(self, message):
        unit = message.unit
        self.report(Started(message.path, message.epoch, unit.id, unit.attempt, 0.0))

    def succeed(self, message):
        self.start(message)
        self.finish(message, "succeeded", observed={"by": message.unit.id})

    def hold(self, message):
        held = self.held.setdefault(message.path, [])
        held.append(message.unit.id)
        if len(held) == 1:
            self.start(message)

    def finish(self, message, outcome, *, fault=None, observed=None):
        unit = message.unit
        done = len(unit.commands) if outcome == "succeeded" else 0
        self.report(
            Finished(
                message.path,
                message.epoch,
                unit.id,
                unit.attempt,
                outcome,
                done,
                observed or {},
                True,
                fault,
            )
        )

    async def next_message(self):
        self._grown.clear()
        await self._grown.wait()

    async def saw(self, kind, number=1):
        """Wait until `number` messages of one kind have come; the last of them."""
        async with asyncio.timeout(10):
            while len(found := [each for each in self.messages if isinstance(each, kind)]) < number:
                await self.next_message()
        return found[number - 1]


@pytest.fixture
async def tier(tmp_path):
    made = Tier(tmp_path / "state")
    await made.start()
    yield made
    await made.stop()


def spec(name="vm-1", *verbs, key=None, policy=None):
    return UnitSpec(
        resource=f"{RACK}/{name}",
        commands=tuple(CommandSpec(verb=verb) for verb in verbs or ("set",)),
        idempotency_key=key,
        on_failure=policy or OnFailure(),
    )


async def ended(service, *answers):
    done, records = await service.wait([answer.id for answer in answers], 10.0)
    assert done, records
    return [record.state.value for record in records]


async def kinds(service, unit):
    events = await service.events(0, 100, unit.id, None, None)
    return [event.kind.removeprefix("unit.") for event in events]


async def refusal(awaitable):
    with pytest.raises(ProblemError) as raised:
        await awaitable
    return raised.value.problem


async def test_work_is_accepted_while_no_pod_is_there_and_says_why_it_waits(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)

    first, second = await tier.service.submit([spec(), spec()])

    assert (first.queued_before, second.queued_before) == (0, 1)
    assert first.expected_start_s is None
    assert tier.service.unit(first.id).reason == f"waiting for {RACK} (pod is down)" or (
        "starting" in tier.service.unit(first.id).reason
    )


async def test_accepted_work_runs_to_its_end_with_every_event(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    (unit,) = await tier.service.submit([spec()])
    await tier.automation(RACK)

    assert await ended(tier.service, unit) == ["succeeded"]
    assert await kinds(tier.service, unit) == ["pending", "dispatched", "executing", "succeeded"]
    assert tier.service.resource(f"{RACK}/vm-1").desired == {"by": unit.id}
    assert (await tier.service.verify()).holds


async def test_root_is_told_its_epoch_and_the_tree_and_every_new_tree(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root, _ = await tier.automation(RACK)

    await tier.service.apply(infrastructure("vm-1", pods=("r1", "r2")), None, False)

    assert [pod.path for pod in (await root.saw(SetTree, 2)).zones[0].pods] == [RACK, "eu/a/r2"]
    assert (await root.saw(Welcome)).root_epoch == 1


async def test_unknown_names_and_empty_work_are_refused_with_a_hint(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)

    problem = await refusal(tier.service.submit([spec(), spec("wm-1"), spec("vm-1", "")]))

    assert (problem.status, [error["index"] for error in problem.errors]) == (422, [1, 2])
    assert problem.errors[0]["hint"] == f"did you mean '{RACK}/vm-1'?"
    assert (await tier.service.units(None, None, 10, None))[0] == []


async def test_unknown_verb_is_refused_once_a_pod_has_told_its_verbs(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    await tier.service.submit([spec("vm-1", "sett")])
    await tier.automation(RACK)

    problem = await refusal(tier.service.submit([spec("vm-1", "sett")]))

    assert problem.errors[0]["hint"] == "did you mean 'set'?"


async def test_template_makes_its_resource_with_the_unit(tier):
    await tier.service.apply(infrastructure(), None, False)
    (unit,) = await tier.service.submit([spec("x-7")])
    await tier.restart()
    await tier.automation(RACK)

    assert await ended(tier.service, unit) == ["succeeded"]
    assert tier.service.resource(f"{RACK}/x-7").on_demand


@pytest.mark.parametrize("name", ["x-*", "x- y", "x-ü", "x-\x1b[31m", "x-y\n", "x-" + "y" * 62])
async def test_template_makes_no_resource_a_file_could_not_name(tier, name):
    await tier.service.apply(infrastructure("vm-1"), None, False)

    problem = await refusal(tier.service.submit([spec(name)]))

    assert problem.errors[0]["code"] == "CLOUDCTL-E0221"
    assert "63 characters" in problem.errors[0]["hint"]
    assert len(tier.service.resources("", 10, None)[0]) == 1


async def test_living_pod_is_told_of_a_resource_made_on_demand(tier):
    await tier.service.apply(infrastructure(), None, False)
    await tier.automation(RACK)

    (unit,) = await tier.service.submit([spec("x-7")])

    assert await ended(tier.service, unit) == ["succeeded"]


async def test_retry_with_a_key_gets_the_same_unit_after_a_restart(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    (first,) = await tier.service.submit([spec(key="k")])
    await tier.restart()

    (again,) = await tier.service.submit([spec(key="k")])

    assert (again.id, again.replayed) == (first.id, True)


async def test_key_with_other_work_is_refused(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    await tier.service.submit([spec(key="k")])

    problem = await refusal(tier.service.submit([spec("vm-1", "other", key="k")]))

    assert (problem.status, problem.errors[0]["index"]) == (422, 0)
    assert problem.errors[0]["message"] == "key 'k' was used for different work"
    assert "the first is unit 1: key 'k'" in problem.detail  # people count from 1


async def test_create_and_destroy_that_meet_in_the_queue_are_superseded(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    units = await tier.service.submit([spec("vm-1", "create"), spec("vm-1", "destroy")])

    assert await ended(tier.service, *units) == ["superseded", "superseded"]


async def test_waiting_strategy_tries_again_before_later_work(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    tries, order = count(1), []

    def busy_twice(message):
        order.append(message.unit.seq)
        pod.start(message)
        if message.unit.seq == 1 and next(tries) < 3:
            pod.finish(message, "failed", fault=Fault("busy", "busy", retryable=True))
        else:
            pod.finish(message, "succeeded")

    pod.on_dispatch = busy_twice
    policy = OnFailure(strategy="wait", backoff_s=0.01)
    units = await tier.service.submit([spec(policy=policy), spec()])

    assert await ended(tier.service, *units) == ["succeeded", "succeeded"]
    assert order == [1, 1, 1, 2]


async def test_at_most_a_mailbox_of_units_is_at_a_resource(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.hold

    await tier.service.submit([spec() for _ in range(9)])
    await pod.saw(Dispatch, 4)
    (answer,) = await tier.service.submit([spec()])

    assert answer.queued_before == 9
    assert len([each for each in pod.messages if isinstance(each, Dispatch)]) == 4


async def test_crash_flushes_units_and_settles_the_one_in_hand(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    path, held = f"{RACK}/vm-1", []
    pod.on_dispatch = held.append
    units = await tier.service.submit([spec(), spec()])
    await pod.saw(Dispatch, 2)
    pod.on_dispatch = pod.succeed
    pod.start(held[0])
    newer = (*pod.epoch, 2)
    pod.report(Crashed(path, held[0].epoch, units[0].id, 1, 0, "boom", (units[1].id,)))
    pod.report(Ready(path, newer, {"x": 1}, True, (Settled(units[0].id, 1, 1),)))

    assert await ended(tier.service, *units) == ["succeeded", "succeeded"]
    assert await kinds(tier.service, units[0]) == [
        "pending",
        "dispatched",
        "executing",
        "in_doubt",
        "succeeded",
    ]
    assert tier.service.unit(units[0].id).crashes == 1
    assert tier.service.unit(units[1].id).epoch == newer
    assert (await tier.service.verify()).holds


async def test_units_of_a_dead_pod_are_settled_by_the_next_one(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.hold
    (unit,) = await tier.service.submit([spec()])
    await pod.saw(Dispatch)
    pod.close()
    root.report(NodeLost(RACK, "pod", 1, pod.epoch, "killed"))

    heir = tier.node(RACK, "pod", (pod.epoch[0], 1, 2))
    (definition,) = (await heir.saw(Define)).resources

    assert [each.id for each in definition.doubt] == [unit.id]
    assert await ended(tier.service, unit) == ["succeeded"]
    assert "in_doubt" in await kinds(tier.service, unit)
    assert (await tier.service.verify()).holds


async def test_zombie_with_an_older_epoch_is_turned_away(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root, _ = await tier.automation(RACK)
    tier.node(RACK, "pod", (root.epoch[0], 1, 2))
    zombie = tier.node(RACK, "pod", (root.epoch[0], 1, 1))
    (unit,) = await tier.service.submit([spec()])

    assert await ended(tier.service, unit) == ["succeeded"]
    assert zombie.messages == []


async def test_reports_are_kept_by_the_pod_until_they_are_durable(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    (unit,) = await tier.service.submit([spec()])
    await ended(tier.service, unit)
    last = await pod.saw(Ack)

    async with asyncio.timeout(5):
        while pod.unacked:
            await pod.next_message()

    assert last.seq <= pod.last


async def test_restart_goes_on_where_the_pod_is(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.hold
    units = await tier.service.submit([spec(), spec()])
    await pod.saw(Dispatch, 2)
    dispatches = [each for each in pod.messages if isinstance(each, Dispatch)]

    service = await tier.restart()
    pod.finish(dispatches[0], "succeeded")
    pod.start(dispatches[1])
    pod.finish(dispatches[1], "succeeded")

    assert await ended(service, *units) == ["succeeded", "succeeded"]
    assert service.unit(units[0].id).attempt == 1
    assert (await service.verify()).holds


async def test_waiting_unit_is_cancelled_at_once_and_a_finished_one_never(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    (unit,) = await tier.service.submit([spec()])

    assert (await tier.service.cancel(unit.id)).state is UnitState.CANCELLED
    assert (await refusal(tier.service.cancel(unit.id))).status == 409


async def test_running_unit_is_cancelled_by_its_pod(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.hold
    (unit,) = await tier.service.submit([spec()])
    dispatch = await pod.saw(Dispatch)

    await tier.service.cancel(unit.id)
    await pod.saw(Cancel)
    pod.finish(dispatch, "cancelled")

    assert await ended(tier.service, unit) == ["cancelled"]


async def at_its_pod(tier, verbs=("set", "set")):
    """A unit that its pod has in hand."""
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.hold
    (unit,) = await tier.service.submit([spec("vm-1", *verbs)])
    dispatch = await pod.saw(Dispatch)
    return root, pod, unit, dispatch


async def test_answered_cancel_is_sent_again_after_a_restart(tier):
    _, pod, unit, dispatch = await at_its_pod(tier)
    assert (await tier.service.cancel(unit.id)).cancel_requested
    await pod.saw(Cancel)

    service = await tier.restart()
    await pod.saw(Cancel, 2)
    pod.finish(dispatch, "cancelled")

    assert await ended(service, unit) == ["cancelled"]
    assert "cancel_requested" in await kinds(service, unit)
    assert (await service.verify()).holds


async def test_cancel_while_the_pod_is_away_is_accepted_and_follows_it(tier):
    root, pod, unit, _ = await at_its_pod(tier)
    pod.close()
    root.report(NodeLost(RACK, "pod", 1, pod.epoch, "killed"))
    async with asyncio.timeout(5), aclosing(tier.service.subscribe(0)) as followed:
        while (await anext(followed)).kind != "unit.in_doubt":
            pass

    record = await tier.service.cancel(unit.id)
    service = await tier.restart()
    tier.node(RACK, "pod", (pod.epoch[0], 1, 2))

    assert (record.state, record.cancel_requested) == (UnitState.IN_DOUBT, True)
    assert await ended(service, unit) == ["cancelled"]
    assert (await service.verify()).holds


async def test_cancelled_unit_lost_on_its_way_is_not_sent_again(tier):
    _, pod, unit, _ = await at_its_pod(tier)
    pod.dialer.close()
    pod.unacked = {}  # it dies before it says that it has begun
    await tier.service.cancel(unit.id)

    service = await tier.restart()
    heir = tier.node(RACK, "pod", (pod.epoch[0], 1, 2))
    heir.on_dispatch = heir.succeed

    assert await ended(service, unit) == ["cancelled"]
    assert [each for each in heir.messages if isinstance(each, Dispatch)] == []


async def loses_its_pod(tier, root, number, units):
    """Let incarnation `number` of the pod begin what it is sent, and die of it once `units` run."""
    pod = tier.node(RACK, "pod", (root.epoch[0], 1, number))
    pod.on_dispatch = pod.hold
    await shown(
        lambda: (
            [tier.service.unit(unit.id).state for unit in units]
            == [UnitState.EXECUTING] * len(units)
        )
    )
    pod.close()
    root.report(NodeLost(RACK, "pod", 1, pod.epoch, "killed by SIGSEGV"))
    await shown(
        lambda: (
            [tier.service.unit(unit.id).state for unit in units]
            == [UnitState.IN_DOUBT] * len(units)
        )
    )


async def test_unit_its_pod_dies_of_is_quarantined_and_the_mailbox_moves_on(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    root = tier.node("root", "root")
    await root.saw(Welcome)
    poison, behind = await tier.service.submit([spec(), spec()])

    for number in range(1, POD_LOSSES_LIMIT + 1):
        await loses_its_pod(tier, root, number, [poison])
    heir = tier.node(RACK, "pod", (root.epoch[0], 1, POD_LOSSES_LIMIT + 1))

    assert await ended(tier.service, poison, behind) == ["quarantined", "succeeded"]
    assert [each.unit.id for each in heir.messages if isinstance(each, Dispatch)] == [behind.id]
    assert tier.service.unit(poison.id).reason == (
        f"its pod died 5 times while it was executing: {RACK} was lost: killed by SIGSEGV"
    )
    assert tier.service.unit(poison.id).attempt == POD_LOSSES_LIMIT
    assert (await tier.service.verify()).holds


async def test_losses_of_its_pod_are_counted_across_a_restart_of_orchestration(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root = tier.node("root", "root")
    await root.saw(Welcome)
    (poison,) = await tier.service.submit([spec()])
    for number in range(1, POD_LOSSES_LIMIT):
        await loses_its_pod(tier, root, number, [poison])

    service = await tier.restart()
    await loses_its_pod(tier, root, POD_LOSSES_LIMIT, [poison])
    tier.node(RACK, "pod", (root.epoch[0], 1, POD_LOSSES_LIMIT + 1))

    assert await ended(service, poison) == ["quarantined"]


async def test_unit_that_got_further_is_not_blamed_for_earlier_losses_of_its_pod(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    root = tier.node("root", "root")
    await root.saw(Welcome)
    (unit,) = await tier.service.submit([spec("vm-1", "set", "set")])
    for number in range(1, POD_LOSSES_LIMIT):
        await loses_its_pod(tier, root, number, [unit])

    lucky = tier.node(RACK, "pod", (root.epoch[0], 1, POD_LOSSES_LIMIT))
    lucky.on_dispatch = lucky.hold
    dispatch = await lucky.saw(Dispatch)
    lucky.report(Progress(dispatch.path, dispatch.epoch, unit.id, dispatch.unit.attempt, 1))
    await shown(lambda: tier.service.unit(unit.id).completed == 1)
    lucky.close()
    root.report(NodeLost(RACK, "pod", 1, lucky.epoch, "killed by SIGKILL"))
    tier.node(RACK, "pod", (root.epoch[0], 1, POD_LOSSES_LIMIT + 1))

    assert await ended(tier.service, unit) == ["succeeded"]


async def shown(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the view tells nobody that it has changed
            await asyncio.sleep(0.005)


async def reason_of(service, unit, word):
    """The reason of a unit, once it has `word` in it."""
    await shown(lambda: word in service.unit(unit.id).reason)
    return service.unit(unit.id).reason


async def test_unit_whose_command_is_overdue_says_so_and_so_do_those_behind(tier):
    _, pod, unit, dispatch = await at_its_pod(tier)
    (behind,) = await tier.service.submit([spec()])
    pod.report(Suspect(f"{RACK}/vm-1", dispatch.epoch, unit.id, 1, 0, "set took longer than 1 s"))

    reason = await reason_of(tier.service, unit, "suspect")
    late = (await tier.service.submit([spec() for _ in range(4)]))[-1]

    assert reason.startswith("suspect for ")
    assert reason.endswith("s: set took longer than 1 s")
    assert tier.service.resource(f"{RACK}/vm-1").detail == "set took longer than 1 s"
    assert f"waiting for {RACK}/vm-1 (suspect for" in await reason_of(tier.service, late, "suspect")
    assert behind.queued_before == 1


async def test_unit_that_waits_for_its_next_attempt_says_when_and_so_do_those_behind(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)

    def busy(message):
        pod.start(message)
        pod.finish(message, "failed", fault=Fault("busy", "device is busy", retryable=True))

    pod.on_dispatch = busy
    policy = OnFailure(strategy="wait", backoff_s=60.0, backoff_max_s=60.0)
    unit, behind = await tier.service.submit([spec(policy=policy), spec()])

    reason = await reason_of(tier.service, unit, "attempt in")
    assert reason.startswith(("next attempt in 5", "next attempt in 60"))
    assert reason.endswith("s; attempt 1: device is busy")
    assert f"waiting for {unit.id}, whose next attempt is in" in tier.service.unit(behind.id).reason


async def test_unit_in_doubt_says_what_it_waits_for(tier):
    root, pod, unit, _ = await at_its_pod(tier)
    pod.close()
    root.report(NodeLost(RACK, "pod", 1, pod.epoch, "killed"))

    down = await reason_of(tier.service, unit, "lost")
    heir = tier.node(RACK, "pod", (pod.epoch[0], 1, 2))
    heir.define = lambda resources: heir.report(
        ResourceState(resources[0].path, (*heir.epoch, 1), "synchronising", "settling it")
    )

    assert down == f"waiting for {RACK} (pod is down); {RACK} was lost: killed"
    assert (await reason_of(tier.service, unit, "settling it")).startswith(
        f"waiting to be settled by {RACK}/vm-1 (synchronising: settling it); "
    )


async def test_resource_that_is_set_aside_is_brought_back_by_a_reset(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    path = f"{RACK}/vm-1"
    pod.report(ResourceState(path, (*pod.epoch, 1), "set_aside", "crashed by different units: a"))
    await shown(lambda: tier.service.resource(path).state == "set_aside")
    (unit,) = await tier.service.submit([spec()])
    reason = tier.service.unit(unit.id).reason

    await tier.service.reset(path)
    (definition,) = (await pod.saw(Define, 2)).resources
    pod.report(Ready(definition.path, (*pod.epoch, 2), {}, False))

    assert "set aside: crashed by different units: a" in reason
    assert f"cloudctl reset resource {path}" in reason
    assert await ended(tier.service, unit) == ["succeeded"]
    assert (await refusal(tier.service.reset(path))).code == "CLOUDCTL-E0233"
    assert (await refusal(tier.service.reset(f"{RACK}/vm-9"))).status == 404
    assert (await tier.service.verify()).holds


async def test_apply_with_a_stale_revision_is_refused(tier):
    await tier.service.apply(infrastructure("vm-1"), 0, False)

    problem = await refusal(tier.service.apply(infrastructure("vm-2"), 0, False))

    assert problem.status == 412


async def test_apply_of_the_same_changes_nothing(tier):
    first = await tier.service.apply(infrastructure("vm-1"), None, False)

    again = await tier.service.apply(infrastructure("vm-1"), None, False)

    assert (again.revision, again.plan.changes) == (first.revision, ())


async def test_template_that_does_not_make_a_name_any_more_does_not_keep_its_work(tier):
    await tier.service.apply(infrastructure(templates=("x-*",)), None, False)
    await tier.service.submit([spec("x-x")])

    problem = await refusal(tier.service.apply(infrastructure(templates=("x-*x",)), None, False))

    assert problem.status == 409


async def test_apply_that_would_lose_work_needs_leave_and_then_ends_it(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    (unit,) = await tier.service.submit([spec()])
    smaller = infrastructure("vm-2")

    plan = tier.service.plan(smaller)
    problem = await refusal(tier.service.apply(smaller, None, False))
    await tier.service.apply(smaller, None, True)

    assert [(change.action, change.queued) for change in plan.changes] == [("destroy", 1)]
    assert (problem.status, problem.errors[0]["pending"]) == (409, 1)
    assert await ended(tier.service, unit) == ["cancelled"]


async def test_resource_that_comes_back_while_it_leaves_waits_for_its_forerunner(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    _, pod = await tier.automation(RACK)
    await shown(lambda: tier.service.pods()[0].ready == 2)
    pod.retires_by_hand = True
    pod.on_dispatch = pod.hold
    first, behind = await tier.service.submit([spec(), spec()])
    await pod.saw(Dispatch, 2)

    await tier.service.apply(infrastructure("vm-2"), None, True)
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    (later,) = await tier.service.submit([spec()])
    await pod.saw(Retire)
    dispatches = [each for each in pod.messages if isinstance(each, Dispatch)]
    pod.finish(dispatches[0], "succeeded")
    pod.on_dispatch = pod.succeed
    pod.report(Retired(f"{RACK}/vm-1", (behind.id,)))
    pod.resources[f"{RACK}/vm-1"] = (*pod.epoch, 2)
    pod.report(Ready(f"{RACK}/vm-1", (*pod.epoch, 2), {}, False, ()))

    assert await ended(tier.service, first, behind, later) == [
        "succeeded",
        "cancelled",
        "succeeded",
    ]
    assert (await tier.service.verify()).holds


async def test_resource_removed_again_before_its_forerunner_has_left_takes_its_work_along(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    _, pod = await tier.automation(RACK)
    await shown(lambda: tier.service.pods()[0].ready == 2)
    pod.retires_by_hand = True
    pod.on_dispatch = pod.hold
    (first,) = await tier.service.submit([spec()])
    await pod.saw(Dispatch)
    await tier.service.apply(infrastructure("vm-2"), None, True)
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    (later,) = await tier.service.submit([spec()])

    await tier.service.apply(infrastructure("vm-2"), None, True)
    await pod.saw(Retire, 2)
    (dispatch,) = [each for each in pod.messages if isinstance(each, Dispatch)]
    pod.finish(dispatch, "succeeded")
    pod.report(Retired(f"{RACK}/vm-1", ()))

    assert await ended(tier.service, first, later) == ["succeeded", "cancelled"]
    assert (await tier.service.verify()).holds


async def test_view_knows_of_no_difference_while_nothing_is_to_be_held(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.succeed
    (done,) = await tier.service.submit([spec()])
    await ended(tier.service, done)
    pod.on_dispatch = pod.start
    (under_way,) = await tier.service.submit([spec("vm-1", "set", "set")])
    await pod.saw(Dispatch, 2)

    unit = [each for each in pod.messages if isinstance(each, Dispatch)][-1].unit
    path = f"{RACK}/vm-1"
    pod.report(Progress(path, pod.resources[path], unit.id, unit.attempt, 1))
    await shown(lambda: tier.service.unit(under_way.id).completed == 1)

    assert tier.service.resource(path).in_sync is None
    assert (await tier.service.verify()).holds


async def test_resource_with_other_settings_is_not_ready_until_its_pod_says_so(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    await tier.automation(RACK)
    await shown(lambda: tier.service.pods()[0].ready == 2)
    other = infrastructure("vm-1", "vm-2")
    pod = other.regions[0].zones[0].pods[0]
    moved = msgspec.structs.replace(pod.resources[0], connect="unix:elsewhere")
    roomy = msgspec.structs.replace(pod.resources[1], capacity={"cpus": 4})
    zone = msgspec.structs.replace(
        other.regions[0].zones[0], pods=(msgspec.structs.replace(pod, resources=(moved, roomy)),)
    )
    region = msgspec.structs.replace(other.regions[0], zones=(zone,))

    await tier.service.apply(msgspec.structs.replace(other, regions=(region,)), None, False)

    states = {each.path: each.state for each in tier.service.resources("", 10, None)[0]}
    assert states == {f"{RACK}/vm-1": "initialised", f"{RACK}/vm-2": "ready"}
    assert tier.service.pods()[0].ready == 1


def elsewhere(name):
    """One resource, as `infrastructure` has it, but behind another connection."""
    old = infrastructure(name)
    zone = old.regions[0].zones[0]
    moved = msgspec.structs.replace(zone.pods[0].resources[0], connect="unix:elsewhere")
    pod = msgspec.structs.replace(zone.pods[0], resources=(moved,))
    region = msgspec.structs.replace(
        old.regions[0], zones=(msgspec.structs.replace(zone, pods=(pod,)),)
    )
    return msgspec.structs.replace(old, regions=(region,))


def with_mailbox(old, mailbox, **zone_flags):
    zone = old.regions[0].zones[0]
    pods = (msgspec.structs.replace(zone.pods[0], mailbox=mailbox), *zone.pods[1:])
    flags = msgspec.structs.replace(zone.supervision, **zone_flags)
    zone = msgspec.structs.replace(zone, pods=pods, supervision=flags)
    region = msgspec.structs.replace(old.regions[0], zones=(zone,))
    return msgspec.structs.replace(old, regions=(region,))


async def test_pod_is_up_again_only_once_it_runs_with_its_new_settings(tier):
    both = infrastructure("vm-1", pods=("r1", "r2"))
    await tier.service.apply(both, None, False)
    root, pod, _ = await tier.automation("eu/a/r1", "eu/a/r2")
    await shown(lambda: [each.state for each in tier.service.pods()] == ["up", "up"])

    await tier.service.apply(with_mailbox(both, 9), None, False)
    assert [each.state for each in tier.service.pods()] == ["starting", "up"]

    pod.close()
    fresh = tier.node("eu/a/r1", "pod", (root.epoch[0], 1, 2))
    await fresh.saw(Define)
    await shown(lambda: [each.state for each in tier.service.pods()] == ["up", "up"])

    await tier.service.apply(with_mailbox(both, 9, intensity=50), None, False)
    assert [each.state for each in tier.service.pods()] == ["starting", "starting"]


async def test_other_resources_leave_a_pod_up(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    await tier.automation(RACK)
    await shown(lambda: tier.service.pods()[0].state == "up")

    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)

    assert tier.service.pods()[0].state == "up"


async def test_end_of_a_unit_on_the_former_device_is_not_what_the_new_one_is_to_be(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    path = f"{RACK}/vm-1"
    pod.on_dispatch = pod.start
    (unit,) = await tier.service.submit([spec()])
    dispatch = await pod.saw(Dispatch)

    await tier.service.apply(elsewhere("vm-1"), None, False)
    await pod.saw(Define, 2)
    pod.finish(dispatch, "succeeded", observed={"at": "the old one"})

    assert await ended(tier.service, unit) == ["succeeded"]
    assert tier.service.resource(path).desired is None
    pod.resources[path] = (*pod.epoch, 2)
    pod.report(Ready(path, pod.resources[path], {"at": "the new one"}, True))
    await shown(lambda: tier.service.resource(path).observed == {"at": "the new one"})
    pod.on_dispatch = pod.succeed
    (later,) = await tier.service.submit([spec()])
    assert await ended(tier.service, later) == ["succeeded"]
    assert tier.service.resource(path).desired == {"by": later.id}


async def test_unit_on_the_former_device_may_end_after_a_restart_of_orchestration(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    pod.on_dispatch = pod.start
    (unit,) = await tier.service.submit([spec()])
    dispatch = await pod.saw(Dispatch)
    await tier.service.apply(elsewhere("vm-1"), None, False)
    await pod.saw(Define, 2)

    service = await tier.restart()
    pod.finish(dispatch, "succeeded", observed={"at": "the old one"})

    assert await ended(service, unit) == ["succeeded"]
    resource = service.resource(f"{RACK}/vm-1")
    assert (resource.desired, resource.observed) == (None, {})


async def test_state_held_for_the_former_device_is_not_back_after_a_restart(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    await tier.automation(RACK)
    (unit,) = await tier.service.submit([spec()])
    await ended(tier.service, unit)
    assert tier.service.resource(f"{RACK}/vm-1").desired is not None

    await tier.service.apply(elsewhere("vm-1"), None, False)
    service = await tier.restart()

    assert service.resource(f"{RACK}/vm-1").desired is None


async def test_retired_resource_is_gone_from_pod_and_view(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    _, pod = await tier.automation(RACK)

    await tier.service.apply(infrastructure("vm-2"), None, False)
    await pod.saw(Retire)

    assert [each.path for each in tier.service.resources("", 10, None)[0]] == [f"{RACK}/vm-2"]


async def test_events_are_followed_from_a_number_on_and_as_they_come(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    (unit,) = await tier.service.submit([spec()])
    followed = tier.service.subscribe(1)
    seen = [await anext(followed)]
    await tier.service.cancel(unit.id)
    seen.append(await anext(followed))
    await followed.aclose()

    assert [(event.seq, event.kind) for event in seen] == [
        (2, "unit.pending"),
        (3, "unit.cancelled"),
    ]


async def test_follower_of_another_log_is_told_to_start_again(tier):
    followed = tier.service.subscribe(99)

    first = await anext(followed)
    await followed.aclose()

    assert (first.kind, first.seq) == ("log.resync", 0)


async def test_waiting_ends_with_the_time_given(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    (unit,) = await tier.service.submit([spec()])

    done, (record,) = await tier.service.wait([unit.id], 0.01)

    assert (done, record.state) == (False, UnitState.PENDING)


async def test_view_counts_what_is_there(tier):
    await tier.service.apply(infrastructure("vm-1", "vm-2"), None, False)
    _, pod = await tier.automation(RACK)
    (unit,) = await tier.service.submit([spec()])
    await ended(tier.service, unit)

    (zone,), (rack,), (region,) = tier.service.zones(), tier.service.pods(), tier.service.regions()

    assert (zone.pods_up, zone.ready, region.resources) == (1, 2, 2)
    assert (rack.state, rack.epoch, rack.ready, rack.in_flight) == ("up", pod.epoch, 2, 0)
    assert tier.service.status().units["succeeded"] == 1
    assert tier.service.resource(f"{RACK}/vm-1").observed_age_s < 10
    assert {node.name for node in tier.service.nodes()} >= {"orchestration", "root", RACK}
    assert b"cloudctl_" in tier.service.metrics()


async def test_lost_pod_shows_as_down_and_its_resources_unreachable(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    _, pod = await tier.automation(RACK)
    (unit,) = await tier.service.submit([spec()])
    await ended(tier.service, unit)
    pod.close()
    async with asyncio.timeout(5), aclosing(tier.service.subscribe(0)) as followed:
        while (await anext(followed)).kind != "node.unreachable":
            pass

    assert tier.service.resource(f"{RACK}/vm-1").state == "unreachable"
    assert tier.service.pods()[0].ready == 0


async def test_full_disk_is_told_as_such_and_accepts_nothing(tier):
    await tier.service.apply(infrastructure("vm-1"), None, False)
    connection = tier.journal._store._connection
    used = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {used + 1}")

    problem = await refusal(tier.service.submit([spec() for _ in range(2000)]))
    connection.execute("PRAGMA max_page_count = 1000000")
    answers = await tier.service.submit([spec()])

    assert (problem.status, problem.code) == (507, "CLOUDCTL-E0250")
    assert [answer.queued_before for answer in answers] == [0]
