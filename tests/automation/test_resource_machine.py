"""Whatever happens to a resource: never two commands at once, never one twice, order kept, all accounted for."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drivers.contract import BusyError, DeviceFaultError, InvalidError, OutcomeUnknownError
from rpc.messages import Crashed, Dropped, Finished, Ready, Retired
from tests.automation.bench import Bench, command, unit

ERRORS = [
    InvalidError("no"),
    BusyError("later"),
    OutcomeUnknownError("lost"),
    ("applied", OutcomeUnknownError("lost after the effect")),
    DeviceFaultError("smoke"),
    RuntimeError("bug"),
    ("applied", RuntimeError("bug after the effect")),
]
RESOURCE = "eu/a/p/r"


class ResourceMachine(RuleBasedStateMachine):
    """Orchestration's rules in small: what is in doubt or handed back is dispatched again as a next attempt."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed):
        self.bench = Bench(seed, mailbox=4)
        self.bench.define("r")
        self.attempts: dict[str, int] = {}
        self.completed: dict[str, int] = {}
        self.out: list[str] = []  # dispatched and not accounted for, in order
        self.again: list[str] = []  # to be dispatched again
        self.doubt: set[str] = set()
        self.read = 0
        self.gates = []
        self.is_away = False

    def _read(self):
        for body in self.bench.reports.all[self.read :]:
            match body:
                case Finished():
                    self._finished(body)
                case Dropped(unit=name):
                    self._back([name])
                case Retired(units=units):
                    self._back(units)
                case Crashed(unit=name, flushed=flushed):
                    self._back(flushed)
                    if name is not None:
                        self._account(name)
                        self.completed[name] = body.completed
                        self.doubt.add(name)
                case Ready(settled=settled):
                    self._settled(settled)
        self.read = len(self.bench.reports.all)

    def _finished(self, body):
        self._account(body.unit)
        self.completed[body.unit] = body.completed
        if body.outcome == "failed" and body.fault.retryable:
            self.again.append(body.unit)

    def _back(self, names):
        for name in names:
            self._account(name)
            self.again.append(name)

    def _settled(self, settled):
        assert {one.unit for one in settled} == self.doubt
        for one in settled:
            self.completed[one.unit] = one.completed
            self.again.append(one.unit)
        self.doubt.clear()

    def _account(self, name):
        assert name in self.out, f"{name} accounted for twice or out of nowhere"
        self.out.remove(name)

    def _unit(self, name):
        commands = [command(**{name: index}) for index in range(int(name.partition("x")[2]))]
        first = self.completed.get(name, 0)
        return unit(name, *commands, attempt=self.attempts[name], first=first)

    def _dispatch(self, name):
        self.out.append(name)
        self.bench.dispatch("r", self._unit(name))
        self._read()

    def _is_there(self):
        resource = self.bench.resource("r")
        return resource is not None and resource.epoch != ()

    @precondition(lambda self: self._is_there() and len(self.out) < 4)
    @rule(count=st.integers(1, 3))
    def submit(self, count):
        name = f"u{len(self.attempts)}x{count}"
        self.attempts[name] = 1
        self._dispatch(name)

    @precondition(lambda self: self._is_there() and self.again)
    @rule()
    def dispatch_again(self):
        name = self.again.pop(0)
        self.attempts[name] += 1
        self._dispatch(name)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def dispatch_duplicate(self, data):
        name = data.draw(st.sampled_from(self.out))
        self.bench.dispatch("r", self._unit(name))
        self._read()

    @rule(error=st.sampled_from(ERRORS))
    def trouble_comes(self, error):
        self.bench.driver.script[RESOURCE].append(error)

    @rule()
    def device_hangs(self):
        gate = self.bench.future()
        self.gates.append(gate)
        self.bench.driver.script[RESOURCE].append(gate)

    @rule()
    def device_goes_on(self):
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)
        self.bench.virtual.run_until_idle()
        self._read()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def cancel(self, data):
        self.bench.cancel("r", data.draw(st.sampled_from(self.out)))
        self._read()

    @rule()
    def orchestration_comes_or_goes(self):
        self.is_away = not self.is_away
        self.bench.open(on=not self.is_away)
        self._read()

    @rule(latency=st.integers(0, 2))
    def define(self, latency):
        doubt = tuple(map(self._unit, sorted(self.doubt)))
        self.bench.define("r", config={"latency": latency}, doubt=doubt)
        self._read()

    @rule()
    def retire(self):
        self.bench.retire("r")
        self._read()

    @precondition(lambda self: self._is_there())
    @rule()
    def kill(self):
        pid = self.bench.pod._table.find(RESOURCE).pid
        if pid is not None:
            self.bench.virtual.handle(pid).exit("kill")
            self.bench.virtual.run_until_idle()
            self._read()

    @rule(seconds=st.floats(0.01, 40.0))
    def time_passes(self, seconds):
        self.bench.virtual.advance(seconds)
        self._read()

    @invariant()
    def one_command_at_a_time_and_none_twice(self):
        keys = self.bench.keys()
        assert self.bench.driver.overlaps == 0
        assert len(keys) == len(set(keys))

    @invariant()
    def commands_of_a_unit_keep_their_order(self):
        latest: dict[str, int] = {}
        for _, key in self.bench.driver.effects:
            name, _, index = key.rpartition("/")
            assert int(index) == latest.get(name, -1) + 1 or name.startswith("sync-")
            latest[name] = int(index)

    def teardown(self):
        if not hasattr(self, "bench"):
            return
        try:
            self._settle_down()
        finally:
            self.bench.close()

    def _settle_down(self):
        self.bench.driver.script.clear()
        self.device_goes_on()
        self.bench.open(on=True)
        self.bench.virtual.advance(300.0)
        self._read()
        assert self.out == []


TestResource = ResourceMachine.TestCase
TestResource.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
