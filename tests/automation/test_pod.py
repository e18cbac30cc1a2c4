import tracemalloc

import pytest

from rpc.messages import Crashed, Supervision
from tests.automation.bench import Bench, unit


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()


def test_inventory_names_every_resource_and_its_units(bench):
    bench.define("r", "s")
    bench.driver.script["eu/a/p/r"].append(bench.future())
    bench.dispatch("r", unit("a"), unit("b"))

    inventory = bench.pod.inventory(17)

    assert inventory.last_report == 17
    assert inventory.revision == bench.revision
    assert [(r.path, r.state, r.units) for r in inventory.resources] == [
        ("eu/a/p/r", "executing", ("a", "b")),
        ("eu/a/p/s", "ready", ()),
    ]


def test_figures_count_units_commands_and_mailboxes(bench):
    bench.define("r", "s")
    bench.dispatch("r", unit("a"), unit("b"))
    bench.driver.script["eu/a/p/s"].append(bench.future())
    bench.dispatch("s", *(unit(f"s{number}") for number in range(4)))

    stats = bench.pod.stats(5, 0.25)

    assert stats.units == {"succeeded": 2}
    assert stats.commands == 3
    assert (stats.mailbox_sum, stats.mailbox_max) == (3, 3)
    assert stats.mailbox_depth == (1, 0, 1, 0, 0, 0, 0)
    assert stats.processes == {"ready": 1, "executing": 1}
    assert sum(stats.wait_s) == 3
    assert sum(stats.handle_s) == 2
    assert (stats.reports_pending, stats.loop_lag_s) == (5, 0.25)


def test_figures_count_crashes_by_reason_and_restarts(bench):
    bench.define("r")
    bench.driver.script["eu/a/p/r"].append(RuntimeError("bug"))

    bench.dispatch("r", unit("a"))
    bench.virtual.advance(5.0)

    stats = bench.pod.stats(0, 0.0)
    assert stats.crashes == {"runtime": 1}
    assert stats.restarts == 1


def test_pod_that_crashes_too_often_gives_up_and_says_so():
    bench = Bench(supervision=Supervision(intensity=1, period_s=60.0))
    bench.define("r")
    bench.driver.script["eu/a/p/r"].extend(RuntimeError("bug") for _ in range(9))

    for attempt in (1, 2):
        bench.dispatch("r", unit("a", attempt=attempt))
        bench.virtual.advance(5.0)

    assert not bench.virtual.handle(bench.top).is_alive()
    assert bench.pod.stats(0, 0.0).escalations == 1
    assert bench.reports.figures == 1
    bench.close()


def test_strategy_of_the_pod_restarts_the_siblings_too():
    flags = Supervision(strategy="one_for_all", intensity=10, period_s=60.0)
    bench = Bench(supervision=flags)
    bench.define("r", "s")
    bench.driver.script["eu/a/p/s"].append(bench.future())
    bench.dispatch("s", unit("innocent"), unit("waiting"))
    bench.driver.script["eu/a/p/r"].append(RuntimeError("bug"))

    bench.dispatch("r", unit("a"))
    bench.virtual.advance(5.0)

    (sibling,) = bench.of(Crashed, "s")
    assert (sibling.unit, sibling.flushed, sibling.culprit) == ("innocent", ("waiting",), False)
    assert len(bench.ready("r")) == len(bench.ready("s")) == 2
    assert [s.unit for s in bench.ready("s")[-1].settled] == ["innocent"]
    bench.close()


def test_memory_of_an_idle_resource_is_small(bench):
    bench.define("first")
    tracemalloc.start()
    bench.define(*(f"r{number}" for number in range(2000)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Memory, process, child spec, definition, and the scripted device and its reports besides.
    assert used / 2000 < 3500
