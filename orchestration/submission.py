"""Submission: which units can be accepted, which resources come into being with them, and when they may start."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import islice

from config.names import NAME_PATTERN
from orchestration import problems
from orchestration.problems import ProblemKind
from orchestration.records import OnFailure, UnitSpec
from orchestration.view import PodView, ResourceView, View

__all__ = ["Checked", "check", "expected_start_s"]

STRATEGIES = ("fail", "wait")
LONGEST_KEY = 255
_CANDIDATES = 20_000  # names looked through for a "did you mean"
_DEFAULT = OnFailure()
_NAME = re.compile(NAME_PATTERN)
_NAME_HINT = "letters, digits, `-`, `_` and `.`, a letter or digit first, at most 63 characters"

Error = dict[str, object]


class Checked:
    """A batch that was looked through: its errors, or the resources to be made for it."""

    __slots__ = ("errors", "on_demand")

    def __init__(self) -> None:
        self.errors: list[Error] = []
        self.on_demand: dict[str, None] = {}

    def refuse(self, index: int, kind: ProblemKind, message: str, hint: str = "") -> None:
        """Note why unit `index` cannot be accepted."""
        self.errors.append(kind.item(index, message, hint=hint))


def check(view: View, specs: Sequence[UnitSpec]) -> Checked:
    """Look through a batch against what is declared now."""
    checked = Checked()
    resources = view.resources
    for index, spec in enumerate(specs):
        resource = resources.get(spec.resource)
        if resource is not None:
            _check_verbs(checked, index, spec, resource.pod, resource.spec.driver)
        elif (found := view.template_for(spec.resource)) is not None:
            if not _NAME.fullmatch(spec.resource.rpartition("/")[2]):
                text = f"{spec.resource!r} cannot be made: that is no name"
                checked.refuse(index, problems.UNKNOWN_RESOURCE, text, _NAME_HINT)
                continue
            checked.on_demand[spec.resource] = None
            _check_verbs(checked, index, spec, found[0], found[1].driver)
        else:
            hint = _did_you_mean(view, spec.resource)
            text = f"{spec.resource!r} is not declared, and no template makes it"
            checked.refuse(index, problems.UNKNOWN_RESOURCE, text, hint)
        _check_shape(checked, index, spec)
    return checked


def expected_start_s(resource: ResourceView, queued_before: int) -> float | None:
    """Seconds until a unit with so many before it begins, from the measured drain rate; None: not known."""
    if not (resource.pod.is_live and resource.is_open):
        return None
    if queued_before == 0:
        return 0.0
    drain_s = resource.pod.finish_s
    return None if drain_s is None else round(queued_before * drain_s, 6)


def _check_shape(checked: Checked, index: int, spec: UnitSpec) -> None:
    if not spec.commands:
        checked.refuse(index, problems.NO_COMMANDS, "it has no commands")
    for position, command in enumerate(spec.commands):
        if not command.verb:
            checked.refuse(index, problems.UNKNOWN_VERB, f"command {position} has no verb")
    if spec.on_failure != _DEFAULT and (trouble := _trouble(spec.on_failure)):
        checked.refuse(index, problems.BAD_ON_FAILURE, trouble)
    deadline_s = spec.command_deadline_s
    if deadline_s is not None and not deadline_s > 0:
        checked.refuse(
            index, problems.BAD_PARAMETER, f"command_deadline_s is {deadline_s:g}, must be above 0"
        )
    key = spec.idempotency_key
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        checked.refuse(index, problems.BAD_KEY, f"the key {key[:40]!r} has {len(key)} characters")


def _check_verbs(checked: Checked, index: int, spec: UnitSpec, pod: PodView, driver: str) -> None:
    known = pod.verbs.get(driver)
    if known is None:
        return  # the pod has not told yet; the driver itself refuses a wrong one
    for command in spec.commands:
        if command.verb and command.verb not in known:
            near = difflib.get_close_matches(command.verb, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
            text = f"the driver {driver} has no verb {command.verb!r}"
            checked.refuse(index, problems.UNKNOWN_VERB, text, hint)


def _trouble(policy: OnFailure) -> str:
    if policy.strategy not in STRATEGIES:
        near = difflib.get_close_matches(policy.strategy, STRATEGIES, n=1)
        more = f", did you mean {near[0]!r}?" if near else ""
        return f"strategy is {policy.strategy!r}, known are fail and wait{more}"
    numbers = {
        "attempts": policy.attempts,
        "backoff_s": policy.backoff_s,
        "backoff_max_s": policy.backoff_max_s,
        "deadline_s": policy.deadline_s if policy.deadline_s is not None else 0,
    }
    wrong = [f"{name} is {value:g}" for name, value in numbers.items() if not value >= 0]
    return f"{', '.join(wrong)}: must not be below 0" if wrong else ""


def _did_you_mean(view: View, path: str) -> str:
    pod = view.pods.get(path.rpartition("/")[0])
    candidates = view.resources if pod is None else pod.resources
    near = difflib.get_close_matches(path, islice(candidates, _CANDIDATES), n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    known_pods = difflib.get_close_matches(path.rpartition("/")[0], view.pods, n=1)
    return f"did you mean a resource in {known_pods[0]!r}?" if known_pods and pod is None else ""
