import pytest

from drivers.contract import Health, UnreachableError
from rpc.messages import ResourceState
from tests.automation.bench import Bench, unit


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_driver_that_does_not_open_is_tried_until_it_does(bench):
    bench.driver.opens.extend(UnreachableError("refused") for _ in range(3))

    bench.define("r")
    assert bench.resource("r").state == "initialised"
    assert "refused" in bench.of(ResourceState)[-1].detail
    bench.virtual.advance(5.0)

    assert bench.resource("r").state == "ready"


def test_trouble_with_a_driver_is_reported_once_for_each_resource(bench):
    bench.driver.opens.extend(UnreachableError("refused") for _ in range(5))

    bench.define("r", "s")
    bench.virtual.advance(20.0)

    assert [body.path for body in bench.of(ResourceState)] == ["eu/a/p/r", "eu/a/p/s"]


def test_resource_defined_later_learns_why_it_must_wait(bench):
    bench.define("first", driver="missing")

    bench.define("second", driver="missing")

    assert "missing" in bench.of(ResourceState, "second")[0].detail


def test_lost_connection_is_opened_again(bench):
    bench.define("r")
    opened = bench.driver.opened
    bench.driver.health = Health.UNDETECTED
    bench.driver.script["eu/a/p/r"].append(UnreachableError("gone"))

    bench.dispatch("r", unit("a"))
    bench.virtual.advance(1.0)

    assert bench.driver.opened == opened + 1


def test_standing_connection_is_left_open_after_an_unreachable_device(bench):
    bench.define("r")
    opened = bench.driver.opened
    bench.driver.script["eu/a/p/r"].append(UnreachableError("only this one"))

    bench.dispatch("r", unit("a"))
    bench.virtual.advance(1.0)

    assert bench.driver.opened == opened


def test_driver_that_exits_while_it_opens_or_claims_leaves_the_pod_alone(bench):
    bench.driver.opens.append(SystemExit("no licence"))
    bench.define("r")
    assert "no licence" in bench.of(ResourceState, "r")[-1].detail

    bench.define("s")
    bench.driver.claims.append(SystemExit("no licence"))
    bench.virtual.advance(30.0)

    assert bench.resource("s").state == "ready"
