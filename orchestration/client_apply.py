"""`plan` and `apply`: load the file, show what would change, ask, apply, wait until it is so."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import config
from config import Infrastructure
from orchestration import problems
from orchestration.client import Client
from orchestration.client_output import Console
from orchestration.client_progress import Progress
from orchestration.records import ApplyAnswer, PlanAnswer, PlanChange

__all__ = ["apply", "load", "plan_lines", "show_plan", "wait_until_ready"]

# Symbol and ANSI colour; the symbols alone carry the meaning.
SYMBOLS = {
    "create": ("+", "32"),
    "update": ("~", "33"),
    "replace": ("-/+", "35"),
    "destroy": ("-", "31"),
}
LISTED = 200
POLL_S = 0.2


def load(file: str) -> Infrastructure:
    """Load and check the operator's file.

    Raises:
        ConfigError: it holds everything that is wrong.
        ProblemError: there is no such file.
    """
    if file != "-" and not Path(file).is_file():
        raise problems.UNREADABLE_FILE.error(f"{file}: no such file")
    return config.loads(sys.stdin.read(), "<stdin>") if file == "-" else config.load(file)


def show_plan(console: Console, plan: PlanAnswer) -> None:
    """Write what applying would change."""
    if console.is_machine:
        console.document("Plan", plan=plan)
        return
    for line in plan_lines(console, plan):
        console.write(line)


def plan_lines(console: Console, plan: PlanAnswer) -> Iterator[str]:
    """Lay a plan out for people."""
    if not plan.changes:
        yield f"No changes. The infrastructure is as declared (revision {plan.revision})."
        return
    yield f"Against revision {plan.revision}:"
    for change in plan.changes[:LISTED]:
        yield from _change_lines(console, change)
    if len(plan.changes) > LISTED:
        yield f"  … and {len(plan.changes) - LISTED} more (all of them: -o json)"
    yield ""
    yield f"Plan: {plan.add} to add, {plan.change} to change, {plan.destroy} to destroy."


def apply(
    client: Client,
    console: Console,
    infrastructure: Infrastructure,
    *,
    approved: bool,
    cancel_work: bool,
    wait_s: float | None,
) -> None:
    """Plan, show, ask unless `approved`, apply what was shown, and wait.

    Args:
        client: the server.
        console: where the plan and the result go; questions go to stderr.
        infrastructure: what is to be.
        approved: do not ask.
        cancel_work: also remove resources whose work is unfinished; that work is cancelled.
        wait_s: how long to wait until all resources are ready; None not at all.

    Raises:
        ProblemError: nobody can be asked, refused, the plan is stale, or the wait is over.
    """
    plan = client.plan(infrastructure)
    if not console.is_machine:
        show_plan(console, plan)
    aside = _untouched(_set_aside(client), plan) if wait_s is not None else frozenset()
    if plan.changes:
        if not approved:
            _ask()
        answer = client.apply(infrastructure, revision=plan.revision, cancel_work=cancel_work)
    else:
        answer = ApplyAnswer(revision=plan.revision, plan=plan)
    if console.is_machine:
        console.document("Apply", apply=answer)
    elif plan.changes:
        console.write(f"Applied: revision {answer.revision}.")
    if wait_s is not None:
        try:
            wait_until_ready(client, console, infrastructure, wait_s, aside)
        except KeyboardInterrupt:
            console.say(
                f"no longer waiting; revision {answer.revision} is applied: cloudctl get pods"
            )
            raise


def wait_until_ready(
    client: Client,
    console: Console,
    infrastructure: Infrastructure,
    wait_s: float,
    aside_before: frozenset[str] = frozenset(),
) -> None:
    """Wait until every declared pod is up and its resources are ready.

    Args:
        client: the server.
        console: where progress goes.
        infrastructure: what is declared.
        wait_s: how long.
        aside_before: resources that may stay set aside: they were, and nothing of them was changed.

    Raises:
        ProblemError: not within `wait_s`, or what is missing has been set aside.
    """
    declared = {path: len(pod.resources) for path, pod in infrastructure.pods()}
    give_up_at = time.monotonic() + wait_s
    left: frozenset[str] = frozenset()
    with Progress(console, "resources ready") as progress:
        while True:
            waiting, total = _waiting(client, declared)
            count = sum(waiting.values())
            progress.update(total - count, total)
            if not waiting:
                break
            left = _all_aside(client, count)
            if left - aside_before:
                raise _aside_now(left - aside_before)
            if left:
                break
            if time.monotonic() >= give_up_at:
                raise problems.NOT_CONVERGED.error(
                    f"{count} of {total} resources are not ready after {wait_s:g} s,"
                    f" in {_some(list(waiting))}"
                )
            time.sleep(POLL_S)
    text = f"; {len(left)} set aside before are left so: {_some(sorted(left))}" if left else ""
    console.say(f"{total - len(left)} resources in {len(declared)} pods are ready{text}")


def _waiting(client: Client, declared: dict[str, int]) -> tuple[dict[str, int], int]:
    """Say in which pods how many resources are not ready, all where the pod is not up; and of how many.

    Resources made on demand count, in both figures.
    """
    pods = {pod.path: pod for pod in client.pods()}
    waiting, total = {}, 0
    for path, count in declared.items():
        pod = pods.get(path)
        known = count if pod is None else max(count, pod.resources)
        missing = known if pod is None or pod.state != "up" else known - pod.ready
        total += known
        if missing > 0 or pod is None or pod.state != "up":
            waiting[path] = missing
    return waiting, total


def _all_aside(client: Client, missing: int) -> frozenset[str]:
    """The resources set aside, if they are all that is missing; else none."""
    if not 0 < missing <= client.status().resources.get("set_aside", 0):
        return frozenset()
    aside = _set_aside(client)
    return aside if len(aside) >= missing else frozenset()


def _set_aside(client: Client) -> frozenset[str]:
    if not client.status().resources.get("set_aside", 0):
        return frozenset()
    return frozenset(each.path for each in client.resources() if each.state == "set_aside")


def _untouched(paths: frozenset[str], plan: PlanAnswer) -> frozenset[str]:
    """Those of `paths` that the plan changes neither themselves nor in what is above them."""
    changed = {change.path for change in plan.changes}
    return frozenset(
        path
        for path in paths
        if not changed & set(accumulate(path.split("/"), lambda above, name: f"{above}/{name}"))
    )


def _aside_now(paths: frozenset[str]) -> problems.ProblemError:
    return problems.NOT_CONVERGED.error(
        f"{len(paths)} resources are set aside after too many crashes: {_some(sorted(paths))}",
        hint="cloudctl tree --only failing shows them and why",
    )


def _ask() -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise problems.NEEDS_APPROVAL.error("stdin or stderr is not a terminal")
    sys.stderr.write("\nApply these changes? Only 'yes' is taken for yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise problems.NOT_APPROVED.error("the answer was not 'yes'")


def _change_lines(console: Console, change: PlanChange) -> Iterator[str]:
    symbol, color = SYMBOLS.get(change.action, ("?", "0"))
    queued = f"  ({change.queued} units of work wait there)" if change.queued else ""
    effect = f"  {change.effect}" if change.effect else ""
    yield f"{console.paint(f'{symbol:>5}', color)} {change.kind} {change.path}{queued}{effect}"
    for detail in change.detail:
        yield f"          {detail}"


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
