from __future__ import annotations

import pytest

from drivers.contract import (
    DriverInfo,
    Execution,
    Fence,
    Idempotency,
    InvalidError,
    Step,
    UnsupportedError,
    VerbSpec,
)
from drivers.parameters import check_step

INFO = DriverInfo(
    name="thing",
    kinds=frozenset({"*"}),
    verbs={
        "set": VerbSpec(
            params={
                "type": "object",
                "properties": {
                    "vcpus": {"type": "integer", "minimum": 1, "maximum": 8},
                    "mode": {"enum": ["fast", 1]},
                    "name": {"type": ["string", "null"]},
                },
                "required": ["vcpus"],
                "additionalProperties": False,
            },
            idempotency=Idempotency.NATURAL,
        ),
        "stop": VerbSpec(params={"additionalProperties": False}, idempotency=Idempotency.NATURAL),
    },
    execution=Execution.ASYNC,
    fence=Fence.LEASE,
)


@pytest.mark.parametrize(
    "params", [{"vcpus": 1}, {"vcpus": 8, "mode": "fast"}, {"vcpus": 2, "mode": 1, "name": None}]
)
def test_fitting_parameters_pass(params):
    check_step(INFO, Step("set", params))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "set needs vcpus"),
        ({"vcpus": "2"}, "'2' is not of type integer"),
        ({"vcpus": True}, "True is not of type integer"),
        ({"vcpus": 0}, "vcpus=0 is below 1"),
        ({"vcpus": 9}, "vcpus=9 is above 8"),
        ({"vcpus": 1, "mode": "slow"}, "'slow' is none of fast, 1"),
        ({"vcpus": 1, "mode": True}, "True is none of"),
        ({"vcpus": 1, "nmae": "x"}, "did you mean 'name'?"),
    ],
)
def test_unfitting_parameters_are_refused_with_the_reason(params, text):
    with pytest.raises(InvalidError) as refusal:
        check_step(INFO, Step("set", params))

    assert text in str(refusal.value)


def test_verb_without_parameters_takes_none():
    with pytest.raises(InvalidError, match="stop takes no 'force'; it takes none"):
        check_step(INFO, Step("stop", {"force": True}))


def test_unknown_verb_is_unsupported_with_a_hint():
    with pytest.raises(UnsupportedError, match="did you mean 'stop'"):
        check_step(INFO, Step("sotp"))
