import pytest

from drivers.contract import (
    BusyError,
    DeviceFaultError,
    InvalidError,
    OutcomeUnknownError,
    Settlement,
    StaleEpochError,
)
from rpc.messages import (
    Crashed,
    Dropped,
    Finished,
    Progress,
    ResourceState,
    Retired,
    Started,
    Suspect,
)
from tests.automation.bench import BRIEFLY_S, Bench, command, unit
from tests.automation.scripted import Scripted


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_defined_resource_becomes_ready_and_adopts_what_is_there(bench):
    bench.driver.devices["eu/a/p/r"].state = {"value": "found"}

    bench.define("r")

    (ready,) = bench.ready()
    assert ready.observed == {"value": "found"}
    assert ready.epoch == (1, 1, 1, 1)
    assert bench.keys() == []


def test_units_run_in_the_order_they_came(bench):
    bench.define("r")

    bench.dispatch("r", *(unit(name) for name in "abcd"))

    assert bench.outcomes() == [(name, "succeeded") for name in "abcd"]
    assert bench.keys() == ["a/0", "b/0", "c/0", "d/0"]


def test_finished_unit_tells_the_state_to_hold(bench):
    bench.define("r")

    bench.dispatch("r", unit("a", command(value=1), command(other=2)))

    (finished,) = bench.of(Finished)
    assert finished.observed == {"value": 1, "other": 2}
    assert finished.completed == 2
    assert [body.completed for body in bench.of(Progress)] == [1]


def test_one_command_at_a_time_reaches_the_device(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)

    bench.dispatch("r", unit("a"), unit("b"))
    assert bench.keys() == []
    assert [body.unit for body in bench.of(Started)] == ["a"]
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    assert bench.keys() == ["a/0", "b/0"]
    assert bench.driver.overlaps == 0


def test_applied_commands_of_an_earlier_attempt_are_left_out(bench):
    bench.define("r")

    bench.dispatch("r", unit("a", command(x=1), command(y=2), attempt=2, first=1))

    assert bench.keys() == ["a/1"]


def test_final_error_fails_the_unit_and_not_the_process(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(InvalidError("memory=1 is below 64"))

    bench.dispatch("r", unit("a"), unit("b"))

    first, second = bench.of(Finished)
    assert (first.outcome, first.fault.kind, first.fault.retryable) == ("failed", "invalid", False)
    assert second.outcome == "succeeded"
    assert bench.of(Crashed) == []


def test_command_that_did_not_start_fails_the_unit_retryably(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(BusyError("rebuilding"))

    bench.dispatch("r", unit("a"))

    (finished,) = bench.of(Finished)
    assert (finished.outcome, finished.fault.retryable) == ("failed", True)


def test_unknown_verb_fails_the_unit_before_the_device(bench):
    bench.define("r")

    bench.dispatch("r", unit("a", command("explode")))

    (finished,) = bench.of(Finished)
    assert finished.fault.kind == "unsupported"
    assert "explode" in finished.fault.message


def test_lost_answer_of_an_applied_command_is_settled_as_success(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(("applied", OutcomeUnknownError("hung up")))

    bench.dispatch("r", unit("a"))

    assert bench.outcomes() == [("a", "succeeded")]
    assert bench.keys() == ["a/0"]
    assert bench.of(Suspect) == []


def test_lost_answer_of_a_command_not_applied_is_retryable(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(OutcomeUnknownError("hung up"))

    bench.dispatch("r", unit("a"))

    (finished,) = bench.of(Finished)
    assert (finished.outcome, finished.fault.kind, finished.fault.retryable) == (
        "failed",
        "conflict",
        True,
    )


def test_nothing_runs_while_the_device_does_not_know(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(("applied", OutcomeUnknownError("hung up")))
    bench.driver.settles["eu/a/p/r"].extend([Settlement.UNKNOWN] * 3)

    bench.dispatch("r", unit("a"), unit("b"))
    assert bench.resource("r").state == "suspect"
    assert [body.unit for body in bench.of(Suspect)] == ["a"]
    assert bench.keys() == ["a/0"]
    bench.virtual.advance(10.0)

    assert bench.outcomes() == [("a", "succeeded"), ("b", "succeeded")]


def test_driver_that_cannot_be_stopped_makes_its_resource_suspect(bench):
    bench.define("r")
    release = bench.future()
    bench.driver.deaf.append(release)

    bench.dispatch("r", unit("a", deadline_s=5.0), unit("b"))
    bench.virtual.advance(5.5)
    assert bench.of(Suspect) == []
    bench.virtual.advance(3.0)
    (suspect,) = bench.of(Suspect)
    state = bench.resource("r").state
    release.set_result(None)
    bench.virtual.advance(1.0)

    assert (suspect.unit, suspect.index, state) == ("a", 0, "suspect")
    assert "took longer than 5 s and its driver has not come back" in suspect.reason
    assert bench.outcomes() == [("a", "succeeded"), ("b", "succeeded")]
    assert bench.driver.overlaps == 0


def test_command_over_its_deadline_is_settled_and_never_guessed(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(bench.future())

    bench.dispatch("r", unit("a", deadline_s=5.0))
    bench.virtual.advance(5.5)
    assert bench.of(Finished) == []
    bench.virtual.advance(1.0)

    (finished,) = bench.of(Finished)
    assert (finished.outcome, finished.fault.retryable) == ("failed", True)


def test_command_over_its_deadline_is_cancelled_only_then(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(OutcomeUnknownError("hung up"))
    bench.driver.settles["eu/a/p/r"].extend([Settlement.UNKNOWN] * 8)

    bench.dispatch("r", unit("a", deadline_s=2.0))
    bench.virtual.advance(1.5)
    assert bench.driver.cancels == []
    bench.virtual.advance(30.0)

    assert set(bench.driver.cancels) == {"a/0"}
    assert bench.outcomes() == [("a", "failed")]


def test_device_that_confirms_and_does_nothing_is_found_out(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append("lie")

    bench.dispatch("r", unit("a"))

    assert bench.outcomes() == [("a", "failed")]


@pytest.mark.parametrize("error", [DeviceFaultError("smoke"), RuntimeError("a bug"), SystemExit(3)])
def test_crash_names_the_culprit_and_every_flushed_unit(bench, error):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend([None, error])

    bench.dispatch("r", unit("a"))
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].appendleft(gate)
    bench.dispatch("r", unit("x"), unit("b"), unit("c"), unit("d"))
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    (crashed,) = bench.of(Crashed)
    assert (crashed.unit, crashed.flushed, crashed.culprit) == ("b", ("c", "d"), True)
    assert str(error) in crashed.reason
    assert [(line.unit, line.outcome) for line in crashed.recorder][:2] == [
        ("a", "applied"),
        ("x", "applied"),
    ]


def test_next_incarnation_settles_the_culprit_by_looking(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(("applied", RuntimeError("after the effect")))

    bench.dispatch("r", unit("a"))
    bench.virtual.advance(1.0)

    first, second = bench.ready()
    assert second.epoch > first.epoch
    assert [(s.unit, s.completed) for s in second.settled] == [("a", 1)]
    assert bench.keys() == ["a/0"]


def test_driver_that_answers_nothing_is_told_what_it_must_answer(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append("nothing")

    bench.dispatch("r", unit("a"))

    (crashed,) = bench.of(Crashed)
    assert (
        "driver_contract: scripted.apply answered None to 'set', not Done, NoChange or Accepted"
        in crashed.reason
    )


def test_unit_that_crashed_before_its_effect_is_settled_as_not_done(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend([None, RuntimeError("before the effect")])

    bench.dispatch("r", unit("a", command(x=1), command(y=2)))
    bench.virtual.advance(1.0)

    (settled,) = bench.ready()[-1].settled
    assert settled.completed == 1
    assert bench.keys() == ["a/0"]


def test_resource_crashed_by_different_units_is_set_aside(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend(RuntimeError("broken") for _ in range(9))

    for name in "abc":
        bench.dispatch("r", unit(name))
        bench.virtual.advance(5.0)

    assert bench.resource("r").state == "set_aside"
    assert "a, b, c" in bench.of(ResourceState)[-1].detail
    bench.dispatch("r", unit("d"))
    assert [(body.unit, body.reason) for body in bench.of(Dropped)] == [("d", "set_aside")]


def test_resource_crashed_by_one_unit_again_and_again_stays_in_service(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend(RuntimeError("poison") for _ in range(5))

    for attempt in range(1, 6):
        bench.dispatch("r", unit("a", attempt=attempt))
        bench.virtual.advance(20.0)
    bench.dispatch("r", unit("b"))

    assert bench.outcomes() == [("b", "succeeded")]


def test_set_aside_resource_serves_again_once_it_is_defined_anew(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend(RuntimeError("broken") for _ in range(3))
    for name in "abc":
        bench.dispatch("r", unit(name))
        bench.virtual.advance(5.0)

    bench.define("r")
    bench.dispatch("r", unit("d"))

    assert bench.outcomes()[-1] == ("d", "succeeded")


def test_newer_epoch_at_the_device_stops_the_process_for_good(bench):
    bench.define("r")
    bench.driver.devices["eu/a/p/r"].epoch = (2, 1, 1, 1)

    bench.dispatch("r", unit("a"), unit("b"))
    bench.virtual.advance(60.0)

    (crashed,) = bench.of(Crashed)
    assert (crashed.unit, crashed.flushed, crashed.culprit) == ("a", ("b",), False)
    assert bench.of(ResourceState)[-1].state == "stopped"
    assert bench.pod.stats(0, 0.0).stale_epochs == 1
    assert bench.keys() == []


def test_stale_incarnation_is_not_claimed_either(bench):
    bench.driver.claims.append(StaleEpochError("a newer one was here"))

    bench.define("r")
    bench.virtual.advance(60.0)

    assert bench.ready() == []
    assert bench.resource("r").state == "stopped"


def test_cancelled_unit_in_the_mailbox_never_starts(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"), unit("b"), unit("c"))

    bench.cancel("r", "b")
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    assert bench.outcomes() == [("b", "cancelled"), ("a", "succeeded"), ("c", "succeeded")]
    assert bench.keys() == ["a/0", "c/0"]


def test_cancelled_unit_in_hand_stops_at_the_next_border(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a", command(x=1), command(y=2)))

    bench.cancel("r", "a")
    assert bench.of(Finished) == []
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    (finished,) = bench.of(Finished)
    assert (finished.outcome, finished.completed, finished.observed) == ("cancelled", 1, {"x": 1})


def test_cancel_of_a_unit_nobody_knows_is_answered(bench):
    bench.define("r")

    bench.cancel("r", "ghost")

    assert [(body.unit, body.reason) for body in bench.of(Dropped)] == [("ghost", "unknown")]


def test_unit_dispatched_twice_runs_once_and_is_told_again(bench):
    bench.define("r")

    bench.dispatch("r", unit("a"))
    bench.dispatch("r", unit("a"))

    assert bench.outcomes() == [("a", "succeeded"), ("a", "succeeded")]
    assert bench.keys() == ["a/0"]


def test_unit_dispatched_twice_while_it_waits_is_held_once(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"), unit("b"))

    bench.dispatch("r", unit("a"), unit("b"))
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    assert bench.outcomes() == [("a", "succeeded"), ("b", "succeeded")]


def test_next_attempt_of_a_failed_unit_runs(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(BusyError("busy"))

    bench.dispatch("r", unit("a"))
    bench.dispatch("r", unit("a", attempt=2))

    assert bench.outcomes() == [("a", "failed"), ("a", "succeeded")]


def test_unit_for_another_incarnation_is_dropped(bench):
    bench.define("r")

    bench.dispatch("r", unit("a"), epoch=(1, 1, 1, 7))

    assert [(body.unit, body.reason) for body in bench.of(Dropped)] == [("a", "epoch")]


def test_unit_beyond_the_window_is_dropped():
    bench = Bench(mailbox=2)
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(bench.future())

    bench.dispatch("r", *(unit(name) for name in "abcd"))

    assert [(body.unit, body.reason) for body in bench.of(Dropped)] == [
        ("c", "full"),
        ("d", "full"),
    ]
    bench.close()


def test_nothing_new_begins_while_orchestration_is_away(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a", command(x=1), command(y=2)), unit("b"))

    bench.open(on=False)
    gate.set_result(None)
    bench.virtual.advance(10.0)
    assert bench.keys() == ["a/0"]
    bench.open(on=True)

    assert bench.keys() == ["a/0", "a/1", "b/0"]


def test_retired_resource_finishes_the_command_and_hands_back_the_rest(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a", command(x=1), command(y=2)), unit("b"), unit("c"))

    bench.retire("r")
    assert bench.of(Retired) == []
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    (retired,) = bench.of(Retired)
    assert retired.units == ("b", "c")
    assert [(f.unit, f.outcome, f.completed) for f in bench.of(Finished)] == [("a", "cancelled", 1)]
    assert bench.resource("r") is None


def test_idle_resource_is_retired_at_once(bench):
    bench.define("r", "s")

    bench.retire("r")

    assert [body.path for body in bench.of(Retired)] == ["eu/a/p/r"]
    assert bench.resource("s").state == "ready"


def test_retiring_what_is_not_there_is_answered(bench):
    bench.retire("ghost")

    assert [body.path for body in bench.of(Retired)] == ["eu/a/p/ghost"]


def test_resource_defined_again_begins_above_the_epoch_it_had(bench):
    bench.define("r")
    before = bench.epoch("r")
    bench.retire("r")

    bench.define("r")

    assert bench.epoch("r") > before


def test_resource_waiting_for_its_restart_is_retired(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(RuntimeError("crash"))
    bench.dispatch("r", unit("a"))

    bench.retire("r")
    bench.virtual.advance(60.0)

    assert [body.path for body in bench.of(Retired)] == ["eu/a/p/r"]
    assert len(bench.ready()) == 1


def test_resource_defined_again_while_it_retires_comes_back(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"))

    bench.retire("r")
    bench.define("r")
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    assert len(bench.of(Retired)) == 1
    assert bench.resource("r").state == "ready"


def test_unit_that_crashes_a_retiring_process_is_settled_by_its_return(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"))

    bench.retire("r")
    bench.define("r")
    gate.set_exception(RuntimeError("bug"))
    bench.virtual.advance(5.0)

    assert [s.unit for s in bench.ready()[-1].settled] == ["a"]


def test_changed_definition_is_taken_on_between_two_units(bench):
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"), unit("b"))

    bench.define("r", config={"latency": 1})
    gate.set_result(None)
    bench.virtual.advance(BRIEFLY_S)

    assert bench.outcomes() == [("a", "succeeded")]
    assert [(body.unit, body.reason) for body in bench.of(Dropped)] == [("b", "epoch")]
    assert bench.ready()[-1].epoch > bench.ready()[0].epoch


def test_state_of_the_former_device_is_not_put_on_the_one_that_takes_its_place(bench):
    new = bench.others["elsewhere"] = Scripted()
    new.devices["eu/a/p/r"].state = {"value": "its own"}
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"))

    bench.define("r", driver="elsewhere")
    gate.set_result(None)
    bench.virtual.advance(5.0)

    assert bench.outcomes() == [("a", "succeeded")]
    assert bench.ready()[-1].observed == {"value": "its own"}
    assert new.effects == []


def test_state_of_the_former_device_is_not_put_on_one_that_comes_back_under_its_name(bench):
    new = bench.others["elsewhere"] = Scripted()
    new.devices["eu/a/p/r"].state = {"value": "its own"}
    bench.define("r")
    gate = bench.future()
    bench.driver.script["eu/a/p/r"].append(gate)
    bench.dispatch("r", unit("a"))

    bench.retire("r")
    bench.define("r", driver="elsewhere")
    gate.set_result(None)
    bench.virtual.advance(5.0)

    assert bench.ready()[-1].observed == {"value": "its own"}
    assert new.effects == []


def test_unchanged_definition_leaves_the_process_alone(bench):
    bench.define("r")

    bench.define("r")

    assert len(bench.ready()) == 1


def test_complete_definition_retires_what_it_does_not_name(bench):
    bench.define("r", "s")

    bench.define("s", complete=True)

    assert [body.path for body in bench.of(Retired)] == ["eu/a/p/r"]


def test_unloadable_driver_leaves_only_its_own_resources_behind(bench):
    bench.define("bad", driver="missing")
    bench.define("good")

    assert bench.resource("bad").state == "initialised"
    assert "missing" in bench.of(ResourceState, "bad")[-1].detail
    assert bench.resource("good").state == "ready"


def test_killed_process_is_accounted_for_by_its_successor(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(bench.future())
    bench.dispatch("r", unit("a"), unit("b"))

    pid = bench.pod._table.find("eu/a/p/r").pid
    bench.virtual.handle(pid).exit("kill")
    bench.virtual.advance(5.0)

    (crashed,) = bench.of(Crashed)
    assert (crashed.unit, crashed.flushed) == ("a", ("b",))
    assert [s.unit for s in bench.ready()[-1].settled] == ["a"]
    assert bench.driver.overlaps == 0
