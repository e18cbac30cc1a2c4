from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.device_state import KEYS_REMEMBERED, Device, RefusalError, transition


def test_create_twice_with_equal_attributes_changes_nothing():
    made = transition(None, "create", {"memory": "1GiB"})

    assert made == {"running": False, "memory": "1GiB"}
    assert transition(made, "create", {"memory": "1GiB"}) == made


def test_create_of_something_else_under_the_name_is_refused():
    made = transition(None, "create", {"memory": "1GiB"})

    with pytest.raises(RefusalError, match="exists already, with another memory"):
        transition(made, "create", {"memory": "2GiB"})


def test_what_does_not_exist_cannot_be_started():
    with pytest.raises(RefusalError, match="cannot start: it does not exist"):
        transition(None, "start", {})


def test_destroying_nothing_leaves_nothing():
    assert transition(None, "destroy", {}) is None


def test_set_to_null_removes_an_attribute():
    made = transition(None, "create", {"vlan": 7, "mtu": 1500})

    assert transition(made, "set", {"vlan": None, "mtu": 9000}) == {"running": False, "mtu": 9000}


def test_fault_words_never_become_attributes():
    assert transition(None, "create", {"latency": "5ms", "size": 1}) == {
        "running": False,
        "size": 1,
    }


def test_last_snapshot_dropped_leaves_no_trace():
    made = transition(None, "create", {})
    with_one = transition(made, "snapshot", {"name": "a"})

    assert with_one == {"running": False, "snapshots": ["a"]}
    assert transition(with_one, "drop_snapshot", {"name": "a"}) == made


def test_oldest_key_is_forgotten_past_the_bound():
    device = Device()
    for number in range(KEYS_REMEMBERED + 1):
        device.apply(f"unit/{number}", "noop", {})

    assert not device.knows("unit/0")
    assert device.knows("unit/1")
    assert device.observe(marks=2).marks == (
        f"unit/{KEYS_REMEMBERED - 1}",
        f"unit/{KEYS_REMEMBERED}",
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_fence_never_falls(epochs):
    device = Device()
    highest = ()

    for epoch in epochs:
        assert device.raise_fence(epoch) is (epoch >= highest)
        highest = max(highest, epoch)
        assert device.fence == highest
