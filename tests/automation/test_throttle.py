from hypothesis import given
from hypothesis import strategies as st

from automation.resource_memory import ResourceMemory
from automation.throttle import Ask, Throttle
from rpc.messages import ResourceDefinition
from tests.automation.scripted import Scripted


def ask(name: str, *, queued: bool = False) -> Ask:
    definition = ResourceDefinition(name, "vm", "scripted", "", {}, queued=queued)
    return Ask(ResourceMemory(definition, 4), (1,), Scripted())


def names(asks: list[Ask]) -> list[str]:
    return [one.memory.path for one in asks]


def test_throttle_grants_one_second_of_tokens_at_once():
    throttle = Throttle(rate=3.0, now=0.0)
    for number in range(5):
        throttle.ask(ask(f"r{number}"))

    assert names(throttle.grant(now=0.0, most=99)) == ["r0", "r1", "r2"]
    assert names(throttle.grant(now=0.0, most=99)) == []
    assert len(throttle) == 2


def test_throttle_grants_the_rest_as_tokens_come_in():
    throttle = Throttle(rate=2.0, now=0.0)
    for number in range(4):
        throttle.ask(ask(f"r{number}"))
    throttle.grant(now=0.0, most=99)

    assert throttle.wait_s() == 0.5
    assert names(throttle.grant(now=0.5, most=99)) == ["r2"]


def test_throttle_lets_resources_with_work_go_first():
    throttle = Throttle(rate=10.0, now=0.0)
    throttle.ask(ask("idle"))
    throttle.ask(ask("busy", queued=True))

    assert names(throttle.grant(now=0.0, most=99)) == ["busy", "idle"]


def test_throttle_grants_no_more_than_a_batch():
    throttle = Throttle(rate=10.0, now=0.0)
    for number in range(4):
        throttle.ask(ask(f"r{number}"))

    assert len(throttle.grant(now=0.0, most=3)) == 3


def test_slow_throttle_still_grants():
    throttle = Throttle(rate=0.5, now=0.0)
    throttle.ask(ask("r0"))

    assert names(throttle.grant(now=0.0, most=9)) == ["r0"]


@given(
    rate=st.floats(0.5, 1000.0),
    steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 20)), max_size=30),
)
def test_throttle_never_exceeds_its_rate_by_more_than_a_bucket(rate, steps):
    throttle, now, granted, asked = Throttle(rate, now=0.0), 0.0, 0, 0
    for wait_s, count in steps:
        now += wait_s
        for _ in range(count):
            throttle.ask(ask(f"r{asked}"))
            asked += 1
        granted += len(throttle.grant(now, most=1000))

        assert granted <= max(rate, 1.0) + now * rate + 1e-6
        assert granted + len(throttle) == asked
