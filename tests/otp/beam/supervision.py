"""Random scenarios of supervision, run on the BEAM and on us: the same starts, stops, reasons and answers.

By hand: python -m tests.otp.beam.supervision --scenarios 5000 --seed 7
`scenarios` makes them, `beam_supervision.erl` plays them on the BEAM and `stage` on us.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.otp.beam.beam import ask_beam
from tests.otp.beam.scenarios import Scenario, Term, generate
from tests.otp.beam.stage import Stage

__all__ = ["Compared", "compare"]


def comparable(scenario: Scenario, seen: list[Any]) -> list[Any]:
    """Leave out what OTP does not promise: the order among those that a killed or simple supervisor leaves behind."""
    root, steps = scenario
    supervisors = {child[1]: child for child in supervisors_of(root)}
    simple = {name for name, child in supervisors.items() if child[5][0] == "simple"}
    brutal = any(child[3] == "brutal_kill" for child in supervisors.values())
    violent = "kills" in repr(scenario)
    stormy = any(step[0] == "burst" for step in steps)
    linked = any(step[0] == "link" for step in steps)
    linked = linked or "helper" in repr(scenario)
    free = simple or brutal or linked or any(step[0] == "fake" for step in steps)
    result = []
    for step, (answer, observed) in zip([("start",), *steps], seen, strict=True):
        # A partner that traps exits may be killed by its supervisor before or after it has taken the exit signal.
        events = [event for event in observed if not (linked and event[0] == "info")]
        if free or (step[0] == "kill" and supervisors.keys() & step[1]):
            starts = [event for event in events if event[0] == "start"]
            others = sorted((event for event in events if event[0] != "start"), key=repr)
            events = starts + others
        elif violent:
            # The victim of a child that is about to end itself: either may be gone first.
            events = [
                event
                for down, run in groupby(events, lambda event: event[0] == "down")
                for event in (sorted(run, key=repr) if down else run)
            ]
        shown = answer
        if step[0] == "manage" and step[1] in simple:
            shown = listing(answer, stormy=stormy)
        elif step[0] == "burst" and step[1] in simple and answer != "dead":
            shown = [listing(part, stormy=stormy) for part in answer]
        result.append([shown, events])
    return result


def listing(answer: Any, *, stormy: bool) -> Any:
    """Sort what which_children answered, and cut what count_children answered; other answers stay."""
    if isinstance(answer, list) and all(isinstance(entry, list) for entry in answer):
        return sorted(answer, key=repr)
    if stormy and isinstance(answer, list) and isinstance(answer[0], int):
        # For OTP 25 a child that was terminated while it was being restarted is one active child less, for ever.
        return [answer[0], *answer[2:]]
    return answer


def supervisors_of(child: Term) -> list[Term]:
    body = child[5]
    if body[0] == "worker":
        return []
    inside = body[7] if body[0] == "sup" else []
    return [child, *(found for inner in inside for found in supervisors_of(inner))]


@dataclass
class Compared:
    """What the BEAM saw in each scenario, and the scenarios where we saw something else."""

    seen: list[Any]
    differing: list[
        tuple[Scenario, int, Any, Any]
    ]  # scenario, step, what the BEAM saw there, what we saw


def compare(scenarios: list[Scenario], folder: Path) -> Compared:
    """Run all on both."""
    compared = Compared([], [])
    theirs = ask_beam("beam_supervision", scenarios, folder)
    for scenario, beam in zip(scenarios, theirs, strict=True):
        beam_seen = comparable(scenario, beam)
        our_seen = comparable(scenario, Stage().play(scenario))
        compared.seen.append(beam_seen)
        for index, (want, got) in enumerate(zip(beam_seen, our_seen, strict=True)):
            if want != got:
                compared.differing.append((scenario, index, want, got))
                break
    return compared


def shrink(scenario: Scenario, folder: Path) -> tuple[Scenario, int, Any, Any]:
    """Drop steps as long as both still differ."""
    smallest = compare([scenario], folder).differing[0]
    while True:
        (root, steps), index = smallest[:2]
        steps = steps[: max(index, 1)]
        fewer = [(root, steps[:drop] + steps[drop + 1 :]) for drop in range(len(steps))]
        found = compare([(root, steps), *fewer], folder).differing
        smaller = [entry for entry in found if len(entry[0][1]) < len(steps)]
        if not smaller:
            return found[0] if found else smallest
        smallest = smaller[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--show", type=int, default=3, help="how many differences to shrink and show"
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = compare(generate(options.scenarios, options.seed), folder).differing
        for entry in found[: options.show]:
            (root, steps), index, want, got = shrink(entry[0], folder)
            print(f"root {root}")
            for number, step in enumerate(steps, 1):
                print(f"  {number}: {step}")
            print(f"step {index}:\n  BEAM {want}\n  ours {got}\n")
    print(f"{options.scenarios} scenarios, {len(found)} differ")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
