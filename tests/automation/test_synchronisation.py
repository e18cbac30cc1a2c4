import pytest

from drivers.contract import InvalidError, OutcomeUnknownError, Settlement, UnreachableError
from rpc.messages import ResourceState
from tests.automation.bench import BRIEFLY_S, Bench, command, unit

PATH = "eu/a/p/r"


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_device_that_differs_is_converged_and_the_steps_are_named(bench):
    bench.driver.devices[PATH].state = {"value": "drifted"}

    bench.define("r", desired={"value": "held"})

    (ready,) = bench.ready()
    assert ready.observed == {"value": "held"}
    assert ready.drift == ("set",)


def test_device_as_desired_is_left_alone(bench):
    bench.driver.devices[PATH].state = {"value": "held"}

    bench.define("r", desired={"value": "held"})

    assert bench.ready()[0].drift == ()
    assert bench.keys() == []


def test_device_that_should_not_exist_is_removed(bench):
    bench.driver.devices[PATH].state = {"value": "left over"}

    bench.define("r", desired={})

    assert bench.ready()[0].exists is False


def test_units_in_doubt_are_settled_in_order_and_never_run(bench):
    device = bench.driver.devices[PATH]
    device.state, device.marks = {"x": 1}, ["a/0", "a/1"]
    doubt = (
        unit("a", command(x=0), command(x=1), attempt=3),
        unit("b", command(y=0), command(y=1), first=1),
        unit("c"),
    )

    bench.define("r", doubt=doubt, desired={"x": 0})

    (ready,) = bench.ready()
    assert [(s.unit, s.attempt, s.completed) for s in ready.settled] == [
        ("a", 3, 2),
        ("b", 1, 1),
        ("c", 1, 0),
    ]
    assert bench.keys() == []


def test_device_changed_by_a_unit_in_doubt_is_taken_as_it_is(bench):
    device = bench.driver.devices[PATH]
    device.state, device.marks = {"x": 1}, ["a/0"]

    bench.define("r", doubt=(unit("a", command(x=1), command(y=1)),), desired={"x": 0})

    assert bench.ready()[0].observed == {"x": 1}
    assert bench.ready()[0].drift == ()


def test_device_untouched_by_a_unit_in_doubt_is_converged(bench):
    bench.driver.devices[PATH].state = {"x": 5}

    bench.define("r", doubt=(unit("a"),), desired={"x": 0})

    assert bench.ready()[0].observed == {"x": 0}


def test_command_still_running_at_the_device_is_waited_for(bench):
    device = bench.driver.devices[PATH]
    device.running = "a/0"

    bench.define("r", doubt=(unit("a"),))
    bench.virtual.advance(20.0)
    assert bench.ready() == []
    device.running, device.marks = None, ["a/0"]
    bench.virtual.advance(5.0)

    assert [s.completed for s in bench.ready()[0].settled] == [1]


def test_command_that_hangs_at_the_device_is_cancelled_after_its_deadline(bench):
    bench.driver.devices[PATH].running = "a/0"

    bench.define("r", doubt=(unit("a", deadline_s=8.0),))
    bench.virtual.advance(7.0)
    assert bench.driver.cancels == []
    assert "a/0 still runs" in bench.of(ResourceState)[0].detail
    bench.virtual.advance(5.0)

    assert bench.driver.cancels == ["a/0"]
    assert [s.completed for s in bench.ready()[0].settled] == [0]


def test_settlement_that_is_not_known_yet_is_asked_for_again(bench):
    bench.driver.settles[PATH].extend([Settlement.UNKNOWN] * 3)

    bench.define("r", doubt=(unit("a"),))
    assert bench.ready() == []
    bench.virtual.advance(5.0)

    assert [s.completed for s in bench.ready()[0].settled] == [0]


def test_unreachable_device_is_tried_again_and_reported_once(bench):
    bench.driver.claims.extend(UnreachableError("no route") for _ in range(4))

    bench.define("r")
    bench.virtual.advance(30.0)

    states = [(b.state, b.detail) for b in bench.of(ResourceState)]
    assert states == [("synchronising", "unreachable: no route")]
    assert bench.resource("r").state == "ready"


def test_convergence_that_is_refused_is_tried_again_and_reported(bench):
    bench.driver.script[PATH].append(InvalidError("not while it runs"))

    bench.define("r", desired={"value": 1})
    bench.virtual.advance(5.0)

    assert any("not while it runs" in b.detail for b in bench.of(ResourceState))
    assert bench.ready()[0].observed == {"value": 1}


def test_lost_answer_while_converging_is_settled_before_the_next_plan(bench):
    bench.driver.script[PATH].append(("applied", OutcomeUnknownError("hung up")))

    bench.define("r", desired={"value": 1})
    bench.virtual.advance(5.0)

    assert len(bench.keys()) == 1
    assert bench.ready()[0].observed == {"value": 1}


def test_each_convergence_has_keys_of_its_own(bench):
    bench.driver.script[PATH].append(("applied", InvalidError("half done")))

    bench.define("r", desired={"value": 1})
    bench.driver.devices[PATH].state = {"value": 2}
    bench.virtual.advance(5.0)

    assert len(bench.keys()) == len(set(bench.keys())) == 2


def test_doubt_that_only_orchestration_has_is_settled_by_a_living_process(bench):
    bench.define("r")
    bench.driver.devices[PATH].marks.append("a/0")

    bench.define("r", doubt=(unit("a"),))

    assert [(s.unit, s.completed) for s in bench.ready()[-1].settled] == [("a", 1)]
    assert bench.ready()[-1].epoch > bench.ready()[0].epoch


def test_doubt_about_a_unit_in_hand_changes_nothing(bench):
    bench.define("r")
    bench.driver.script[PATH].append(bench.future())
    bench.dispatch("r", unit("a"))

    bench.define("r", doubt=(unit("a"),))

    assert len(bench.ready()) == 1


def test_adopted_device_is_adopted_again_after_a_crash(bench):
    bench.driver.devices[PATH].state = {"value": "found"}
    bench.define("r")
    bench.driver.devices[PATH].state = {"value": "changed by hand"}

    pid = bench.pod._table.find(PATH).pid
    bench.virtual.handle(pid).exit("kill")
    bench.virtual.advance(5.0)

    assert bench.ready()[-1].observed == {"value": "changed by hand"}
    assert bench.keys() == []


def test_device_is_brought_back_to_its_last_unit_after_a_crash(bench):
    bench.define("r")
    bench.dispatch("r", unit("a", command(value="wanted")))
    bench.driver.devices[PATH].state = {"value": "changed by hand"}

    pid = bench.pod._table.find(PATH).pid
    bench.virtual.handle(pid).exit("kill")
    bench.virtual.advance(5.0)

    assert bench.ready()[-1].observed == {"value": "wanted"}
    assert bench.ready()[-1].drift == ("set",)


def test_claims_of_a_mass_start_share_driver_calls(bench):
    bench.define(*(f"r{number}" for number in range(1200)))
    bench.virtual.advance(BRIEFLY_S)

    assert bench.driver.batches == [500, 500, 200]
    assert bench.pod.stats(0, 0.0).processes == {"ready": 1200}


def test_mass_start_is_paced_and_urgent_ones_go_first():
    bench = Bench(sync_rate=100.0)
    bench.define(*(f"r{number}" for number in range(300)))

    bench.define("urgent", queued=True)
    started = len(bench.ready("urgent"))
    bench.virtual.advance(0.2)

    assert started == 0
    assert len(bench.ready("urgent")) == 1
    ready = bench.pod.stats(0, 0.0).processes["ready"]
    assert 100 <= ready <= 130
    bench.virtual.advance(3.0)
    assert bench.pod.stats(0, 0.0).processes["ready"] == 301
    bench.close()


def test_device_that_breaks_the_driver_leaves_the_others_of_its_batch_alone(bench):
    bench.driver.devices["eu/a/p/bad"].look = None

    bench.define("good", "bad", "fine")
    bench.virtual.advance(1.0)

    assert bench.resource("good").state == bench.resource("fine").state == "ready"
    assert bench.resource("bad").state == "synchronising"
    assert "type: 'NoneType'" in bench.of(ResourceState, "bad")[0].detail
