"""Makes random scenarios of supervision, for `supervision`.

A scenario is a term: the tree's root as a child, and the steps; `beam_supervision.erl` reads the same.
"""

from __future__ import annotations

from random import Random
from typing import Any

__all__ = ["Scenario", "Term", "generate"]

Term = Any
Scenario = tuple[Term, list[Term]]
REASONS: list[Term] = ["normal", "shutdown", ("shutdown", "done"), "oops", "killed", ("a", "pair")]
# Of one that ends just after its init, while others go on: where it would write a report, and beside a second
# supervisor, OTP promises no order.
CLEAN: list[Term] = ["normal", "shutdown", ("shutdown", "done")]
SHUTDOWNS: list[Term] = ["brutal_kill", 20, 5000, "infinity"]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


class Generator:
    """Makes one scenario."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.levels = random.choice([1, 1, 2, 3])
        self.workers: list[str] = []
        self.supervisors: dict[str, list[str]] = {}

    def scenario(self) -> Scenario:
        if self.random.random() < 0.2:
            return self.simple_scenario()
        root = ("child", "root", "temporary", "infinity", False, self.sup("root", 1))
        steps = [self.step() for _ in range(self.random.randint(4, 16))]
        return root, [*steps, ("stop", self.random.choice(["shutdown", "normal", "oops"]))]

    def simple_scenario(self) -> Scenario:
        """Make one with a simple_one_for_one supervisor; its children are known by pid."""
        pick = self.random
        shutdown = pick.choice(SHUTDOWNS)
        template = (pick.choice(["permanent", "transient", "temporary"]), shutdown)
        sup = ("simple", pick.choice([0, 1, 3, 10]), pick.choice([1, 2, 5, 1000]), template)
        steps = [self.simple_step(shutdown) for _ in range(pick.randint(6, 20))]
        root = ("child", "root", "temporary", "infinity", False, sup)
        return root, [*steps, ("stop", pick.choice(["shutdown", "normal", "oops"]))]

    def simple_step(self, shutdown: Term) -> Term:
        pick = self.random
        worker = pick.choice([*self.workers, "nobody"])
        what = pick.choices(
            ["start", "manage", "kill", "crash", "raise", "pass"], [6, 3, 3, 4, 1, 2]
        )[0]
        if what == "start":
            self.workers.append(f"c{len(self.workers)}")
            made = self.worker(shutdown)
            # A restart that says ignore leaves a bogus entry in OTP 25; newer OTP and we drop the child.
            fates = [fate for fate in made[1] if fate != "ignore"]
            return (
                "manage",
                "root",
                ("start_instance", self.workers[-1], (made[0], fates, *made[2:])),
            )
        if what == "manage":
            stop = ("terminate_instance", worker)
            return ("manage", "root", pick.choice([stop, stop, "which_children", "count_children"]))
        if what == "pass":
            return ("pass", pick.choice([1, 999, 1000, 1001, 3000]))
        return ("kill", [worker]) if what == "kill" else (what, worker, pick.choice(REASONS))

    def sup(self, name: str, level: int) -> Term:
        pick = self.random
        auto = pick.choice(["never", "never", "any_significant", "all_significant"])
        children = self.supervisors[name] = []
        number = pick.choice([1, 2, 3, 3, 4])
        specs = [self.child(name, f"{name}{index}", level, auto) for index in range(number)]
        children.extend(spec[1] for spec in specs)
        return (
            "sup",
            pick.choice(STRATEGIES),
            pick.choice([0, 1, 1, 2, 3, 10]),
            pick.choice([1, 2, 5, 1000]),
            auto,
            specs,
        )

    def child(self, parent: str, name: str, level: int, auto: str) -> Term:
        pick = self.random
        name = name.replace("root", "c")
        restart = pick.choice(["permanent", "permanent", "transient", "temporary"])
        significant = auto != "never" and restart != "permanent" and pick.random() < 0.5
        if level < self.levels and pick.random() < 0.4:
            return ("child", name, restart, "infinity", significant, self.sup(name, level + 1))
        self.workers.append(name)
        shutdown = pick.choice(SHUTDOWNS)
        return ("child", name, restart, shutdown, significant, self.worker(shutdown))

    def worker(self, shutdown: Term) -> Term:
        pick = self.random
        stops: list[Term] = ["quick", "quick", ("exit", pick.choice(REASONS))]
        if shutdown in {"brutal_kill", 20}:
            stops.append("stubborn")
        fates = [self.fate() for _ in range(pick.choice([0, 0, 0, 2, 4]))]
        return ("worker", fates, pick.random() < 0.6, pick.choice(stops))

    def fate(self) -> Term:
        pick = self.random
        bads: list[Term] = ["ignore", "raise", ("fail", pick.choice(REASONS))]
        if self.levels == 1:
            bads.append(("then_exit", pick.choice(CLEAN)))
        bad = pick.choice(bads)
        return pick.choice(["ok", "ok", bad])

    def step(self) -> Term:
        pick = self.random
        sup = pick.choice(list(self.supervisors))
        worker = pick.choice(self.workers) if self.workers else "nobody"
        what = pick.choices(
            ["crash", "raise", "signal", "kill", "kills", "kill_sup", "unlink", "pass", "manage"],
            [6, 1, 2, 3, 2, 1, 0.3, 3, 7],
        )[0]
        match what:
            case "crash" | "signal" | "raise" | "unlink":
                return (what, worker, pick.choice(REASONS))
            case "kill":
                return ("kill", [worker])
            case "kills":
                mine = [name for name in self.supervisors[sup] if name in self.workers]
                return ("kill", pick.sample(mine, min(2, len(mine))))
            case "kill_sup":
                return ("kill", [sup])
            case "pass":
                return ("pass", pick.choice([1, 400, 600, 999, 1000, 1001, 2000, 3000, 6000]))
        return ("manage", sup, self.call(sup))

    def call(self, sup: str) -> Term:
        pick = self.random
        children = self.supervisors[sup]
        child = pick.choice([*children, *children, "nobody"])
        what = pick.choice(
            ["start_child", "terminate_child", "restart_child", "delete_child", "list", "count"]
        )
        if what == "list":
            return "which_children"
        if what == "count":
            return "count_children"
        if what != "start_child":
            return (what, child)
        name = pick.choice([child, f"{sup}_{len(children)}".replace("root", "c")])
        if name == "nobody" or name in self.supervisors:
            name = f"{sup}_x"
        restart = pick.choice(["permanent", "transient", "temporary"])
        shutdown = pick.choice(SHUTDOWNS)
        if name not in children:
            children.append(name)
            self.workers.append(name)
        return (what, ("child", name, restart, shutdown, False, self.worker(shutdown)))


def generate(number: int, seed: int) -> list[Scenario]:
    """Make scenarios; the same for the same seed."""
    return [Generator(Random(f"{seed}/{index}")).scenario() for index in range(number)]
