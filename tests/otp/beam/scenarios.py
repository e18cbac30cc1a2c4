"""Makes random scenarios of supervision, for `supervision`.

A scenario is a term: the tree's root as a child, and the steps; `beam_supervision.erl` reads the same. Each scenario
has a few of the `FEATURES`, not all: together they would leave nothing alive to be watched.
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
RESTARTS = ["permanent", "permanent", "transient", "temporary"]

# Workers and supervisors have registered names, and two may want the same.
NAMES = "names"
# Start functions fail, each in its own way, and supervisors do, also at a restart.
STARTS = "starts"
# Children raise or kill a sibling while they stop, or kill one while they start.
VIOLENT = "violent"
# Several messages await a supervisor that has been kept from its work.
BURSTS = "bursts"
# Supervisors in the tree are stopped by others than their own, and get foreign exit signals.
STOPS = "stops"
# Supervisors in the tree are themselves stopped with brutal_kill.
BRUTAL = "brutal"
# Workers are linked to each other.
LINKS = "links"
# Workers send their living supervisor an exit signal.
FAKES = "fakes"
# simple_one_for_one supervisors in the tree.
SIMPLE = "simple"
# Workers that are no gen_servers; some of them ignore being told to stop.
PLAIN = "plain"
# Workers start a process of their own, linked to them.
HELPERS = "helpers"
FEATURES = [
    NAMES,
    STARTS,
    VIOLENT,
    BURSTS,
    BURSTS,
    STOPS,
    BRUTAL,
    LINKS,
    FAKES,
    SIMPLE,
    PLAIN,
    HELPERS,
]


class Generator:
    """Makes one scenario."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.levels = random.choice([1, 1, 2, 3])
        self.features = set(random.sample(FEATURES, random.choice([0, 1, 2, 2, 3])))
        # What two supervisors do at the same time has no promised order.
        if self.features & {FAKES, VIOLENT}:
            self.levels = 1
        # Nor have orphans who free their names and a supervisor that wants them.
        if NAMES in self.features:
            self.features -= {BRUTAL}
        # How far a death has gone along a chain of links when the supervisor stops the next in it is not promised.
        if LINKS in self.features:
            self.features -= {HELPERS}
        self.linked = False
        self.workers: list[str] = []
        self.supervisors: dict[str, list[str]] = {}
        self.simples: dict[str, Term] = {}  # with their shutdown
        self.named = 0

    def scenario(self) -> Scenario:
        """Make it."""
        pick = self.random
        simple = pick.random() < 0.15
        body = self.simple("root") if simple else self.sup("root", 1)
        root = ("child", "root", "temporary", "infinity", False, body)
        steps = [self.step() for _ in range(pick.randint(4, 16))]
        return root, [*steps, self.end()]

    def end(self) -> Term:
        pick = self.random
        if STOPS not in self.features:
            return ("stop", pick.choice(["shutdown", "normal", "oops"]))
        return pick.choice(
            [
                ("stop", pick.choice(REASONS)),
                ("halt", "root", pick.choice(REASONS)),
                ("kill", ["root"]),
            ]
        )

    # The tree.

    def sup(self, name: str, level: int) -> Term:
        pick = self.random
        auto = pick.choice(["never", "never", "never", "any_significant", "all_significant"])
        children = self.supervisors[name] = []
        number = pick.choice([1, 2, 3, 3, 4])
        specs = []
        for index in range(number):
            specs.append(self.child(name, f"{name}{index}", level, auto))
            children.append(specs[-1][1])
        fates = [] if name == "root" else self.fates(supervisor=True)
        strategy = pick.choice(STRATEGIES)
        return ("sup", self.name(), fates, strategy, *self.limits(), auto, specs)

    def simple(self, name: str) -> Term:
        pick = self.random
        template = (pick.choice(RESTARTS[1:]), pick.choice(SHUTDOWNS))
        self.simples[name] = template[1]
        self.supervisors[name] = []
        return ("simple", self.name(), [], *self.limits(), template)

    def limits(self) -> Term:
        pick = self.random
        intensities = [2, 10, 100, 100] if BURSTS in self.features else [0, 1, 1, 2, 3, 10, 10, 100]
        return pick.choice(intensities), pick.choice([1, 2, 5, 1000])

    def child(self, parent: str, name: str, level: int, auto: str) -> Term:
        pick = self.random
        name = name.replace("root", "c")
        restart = pick.choice(RESTARTS)
        significant = auto != "never" and restart != "permanent" and pick.random() < 0.5
        if level < self.levels and pick.random() < 0.4:
            stop = "infinity"
            if BRUTAL in self.features:
                stop = pick.choice(["brutal_kill", 5000, "infinity"])
            simple = SIMPLE in self.features and pick.random() < 0.5
            body = self.simple(name) if simple else self.sup(name, level + 1)
            return ("child", name, restart, stop, significant, body)
        self.workers.append(name)
        shutdown = pick.choice(SHUTDOWNS)
        body = self.worker(shutdown, self.supervisors[parent])
        return ("child", name, restart, shutdown, significant, body)

    def worker(self, shutdown: Term, siblings: list[str]) -> Term:
        pick = self.random
        stops: list[Term] = ["quick", "quick", ("exit", pick.choice(REASONS))]
        if shutdown in {"brutal_kill", 20} and FAKES not in self.features:
            stops.append("stubborn")
        victims = [name for name in siblings if name in self.workers]
        if VIOLENT in self.features:
            stops.append("raise")
            if victims:
                stops += [("kills", pick.choice(victims))] * 2
        fates = self.fates(victims if VIOLENT in self.features else ())
        if PLAIN in self.features and pick.random() < 0.6:
            deaf = "stubborn" in stops and pick.random() < 0.5
            fates = [fate for fate in fates if fate[0] not in ("kills", "helper")]
            return ("worker", "none", fates, pick.random() < 0.6, ("plain", deaf))
        return ("worker", self.name(), fates, pick.random() < 0.6, pick.choice(stops))

    def name(self) -> str:
        pick = self.random
        if NAMES not in self.features or pick.random() < 0.3:
            return "none"
        self.named += 1
        return f"name{self.named if pick.random() < 0.9 else pick.randrange(self.named)}"

    def fates(self, victims: Any = (), *, supervisor: bool = False) -> list[Term]:
        pick = self.random
        if supervisor and STARTS not in self.features:
            return []
        number = pick.choice([0, 0, 0, 2, 4])
        later = [self.fate(victims, supervisor) for _ in range(number)]
        if BURSTS in self.features and not supervisor and pick.random() < 0.7:
            later = [self.failure() for _ in range(pick.randint(1, 6))] + later
        first = [] if pick.random() < 0.1 else ["ok"]
        if HELPERS in self.features and not supervisor:
            helper = ("helper", pick.random() < 0.5)
            return [
                pick.choice([helper, fate]) if fate == "ok" else fate for fate in ["ok", *later]
            ]
        return [*first, *later] if later else []

    def failure(self) -> Term:
        pick = self.random
        return pick.choice(["raise", ("fail", pick.choice(REASONS)), ("start", "odd")])

    def fate(self, victims: Any, supervisor: bool) -> Term:
        pick = self.random
        reason = pick.choice(REASONS)
        bads: list[Term] = ["ignore", "raise", "odd" if supervisor else ("fail", reason)]
        if self.levels == 1 and not supervisor:
            bads.append(("then_exit", pick.choice(CLEAN)))
        if victims:
            bads += [("kills", pick.choice(victims))] * 2
        if STARTS in self.features:
            kinds = ["ignore", "raise", "odd", "info", ("error", reason), ("exit", reason)]
            bads += [("exit", reason), ("start", pick.choice(kinds)), ("start", pick.choice(kinds))]
        return pick.choice(["ok", "ok", pick.choice(bads)])

    # The steps.

    def step(self) -> Term:
        pick = self.random
        if self.simples and pick.random() < 0.3:
            return ("manage", (simple := pick.choice(list(self.simples))), self.simple_call(simple))
        sup = pick.choice(list(self.supervisors))
        if self.features and pick.random() < (0.7 if BURSTS in self.features else 0.4):
            return self.special(sup) or self.common(sup)
        return self.common(sup)

    def common(self, sup: str) -> Term:
        pick = self.random
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
                number = 1 if self.features & {LINKS, HELPERS} else 2
                return ("kill", pick.sample(mine, min(number, len(mine))))
            case "kill_sup":
                # A deep tree may not have freed its names before the next one wants them.
                deep = NAMES in self.features and self.levels > 2
                return ("kill", ["root" if deep else sup])
            case "pass":
                return ("pass", pick.choice([1, 400, 600, 999, 1000, 1001, 2000, 3000, 6000]))
        return ("manage", sup, self.call(sup))

    def special(self, sup: str) -> Term:
        pick = self.random
        reason = pick.choice(REASONS)
        mine = [name for name in self.supervisors[sup] if name in self.workers]
        what = pick.choice([*sorted(self.features), *(self.features & {BURSTS})])
        if what == BURSTS:
            return ("burst", sup, self.parts(sup))
        if what == STOPS:
            return (pick.choice(["halt", "signal"]), sup, reason)
        if what == LINKS and len(mine) > 1 and not self.linked:
            self.linked = True
            return ("link", *pick.sample(mine, 2))
        if what == HELPERS and mine:
            helper = f"{pick.choice(mine)}h"
            return ("kill", [helper]) if pick.random() < 0.5 else ("crash", helper, reason)
        if what == FAKES and mine:
            return ("fake", pick.choice(mine), reason)
        return None

    def parts(self, sup: str) -> list[Term]:
        """Make messages for a supervisor that is kept from its work: children that end, calls about the same children."""
        pick = self.random
        mine = [name for name in self.supervisors[sup] if name in self.workers]
        few = pick.sample(mine, min(2, len(mine)))
        parts: list[Term] = []
        # A supervisor obeys its own even now.
        last = (
            ("stop", pick.choice(REASONS))
            if sup == "root"
            else ("manage", "root", self.call("root"))
        )
        for _ in range(pick.randint(2, 7)):
            worker = pick.choice(few) if few else "nobody"
            what = pick.choices(["kill", "crash", "about", "any"], [3, 2, 4, 2])[0]
            match what:
                case "kill":
                    parts.append(("kill", [worker]))
                case "crash":
                    parts.append(("crash", worker, pick.choice(REASONS)))
                case "about" if sup not in self.simples:
                    how = pick.choice(["terminate_child", "restart_child", "delete_child"])
                    parts.append(
                        ("call", pick.choice([(how, worker), (how, worker), "which_children"]))
                    )
                case "about":
                    parts.append(
                        ("call", pick.choice([("terminate_instance", worker), "which_children"]))
                    )
                case "any":
                    parts.append(("call", self.call(sup)))
        return [*parts, last] if pick.random() < 0.15 else parts

    def simple_call(self, sup: str) -> Term:
        pick = self.random
        mine = self.supervisors[sup]
        worker = pick.choice([*mine, *mine, *self.workers, "nobody"])
        if pick.random() < (0.5 if mine else 0.9):
            mine.append(f"i{len(self.workers)}")
            self.workers.append(mine[-1])
            made = self.worker(self.simples[sup], [])
            # A restart that says ignore leaves a bogus entry in OTP 25; newer OTP and we drop the child.
            fates = [fate for fate in made[2] if fate not in ("ignore", ("start", "ignore"))]
            body = (*made[:2], fates, *made[3:])
            return ("start_instance", self.workers[-1], body)
        stop = ("terminate_instance", worker)
        refused = (pick.choice(["restart_child", "delete_child", "terminate_child"]), worker)
        listed = ["which_children", "count_children", ("get_childspec", pick.choice(["t", "x"]))]
        return pick.choice([stop, stop, *listed, refused])

    def call(self, sup: str) -> Term:
        pick = self.random
        if sup in self.simples:
            return self.simple_call(sup)
        children = self.supervisors[sup]
        child = pick.choice([*children, *children, "nobody"])
        what = pick.choice(
            [
                "start_child",
                "terminate_child",
                "restart_child",
                "delete_child",
                "list",
                "count",
                "spec",
            ]
        )
        if what in ("list", "count"):
            return "which_children" if what == "list" else "count_children"
        if what != "start_child":
            return ("get_childspec" if what == "spec" else what, child)
        name = pick.choice([child, f"{sup}_{len(children)}".replace("root", "c")])
        if name == "nobody" or name in self.supervisors or name in self.simples:
            name = f"{sup}_x"
        restart = pick.choice(RESTARTS[1:])
        significant = restart != "permanent" and pick.random() < 0.2
        shutdown = pick.choice(SHUTDOWNS)
        siblings = list(children)
        if name not in children:
            children.append(name)
            self.workers.append(name)
        made = self.worker(shutdown, siblings)
        return (what, ("child", name, restart, shutdown, significant, made))


def generate(number: int, seed: int) -> list[Scenario]:
    """Make scenarios; the same for the same seed."""
    return [Generator(Random(f"{seed}/{index}")).scenario() for index in range(number)]
