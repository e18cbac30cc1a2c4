"""What each command of the command line does, given its options: one function a command.

`cli.py` imports this only when a command really runs, so that help and completion stay fast. The module is
longer than most because there are many commands; none of their functions is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import IO, NoReturn

import msgspec
from msgspec import Struct

import config
from orchestration import (
    client_apply,
    client_get,
    client_local_server,
    client_submit,
    client_tree,
    problems,
)
from orchestration.client import TIMEOUT_S, Client
from orchestration.client_get import Filter
from orchestration.client_input import parse_command, parse_duration, parse_on_failure
from orchestration.client_output import FORMATS, Console
from orchestration.client_target import Target, choose_target
from orchestration.client_views import view_of
from orchestration.client_work_file import read_units
from orchestration.problems import ProblemError
from orchestration.records import (
    TERMINAL,
    OnFailure,
    UnitRecord,
    UnitSpec,
    UnitState,
    VerifyAnswer,
)

__all__ = [
    "Filter",
    "Settings",
    "SubmitOptions",
    "apply",
    "cancel",
    "describe",
    "events",
    "get",
    "init",
    "names",
    "plan",
    "reset",
    "retry",
    "schema",
    "serve",
    "server_start",
    "server_status",
    "server_stop",
    "submit_file",
    "submit_words",
    "tree",
    "validate",
    "verify",
    "version",
]

APPLY_WAIT_S = 300.0
COMPLETION_S = 0.2


class Settings(Struct, kw_only=True):
    """The options every command has."""

    server: str | None = None
    state_dir: str | None = None
    timeout: str | None = None
    output: str = "table"
    color: str = "auto"
    no_headers: bool = False
    quiet: bool = False

    @property
    def target(self) -> Target:
        """Find the server that is meant."""
        return choose_target(self.server, self.state_dir)

    @property
    def console(self) -> Console:
        """Make the console that writes as wanted."""
        if self.output not in FORMATS:
            raise problems.BAD_ARGUMENT.error(
                f"-o {self.output!r}", hint=f"formats: {', '.join(FORMATS)}"
            )
        return Console(
            color=self.color, format=self.output, headers=not self.no_headers, quiet=self.quiet
        )

    def client(self) -> Client:
        """Make a client of that server."""
        return Client(
            self.target, TIMEOUT_S if self.timeout is None else parse_duration(self.timeout)
        )


class SubmitOptions(Struct, frozen=True, kw_only=True):
    """The options of submit; those given hold for every unit of a file that does not say otherwise."""

    wait: str | None = None
    on_failure: str | None = None
    deadline: str | None = None
    command_deadline: str | None = None
    idempotency_key: str | None = None

    def over(self, unit: UnitSpec) -> UnitSpec:
        """Put the options that were given over what `unit` has by default."""
        changed = unit
        asked = self.on_failure is not None or self.deadline is not None
        if asked and unit.on_failure == OnFailure():
            rule = parse_on_failure(self.on_failure, self.deadline)
            changed = msgspec.structs.replace(changed, on_failure=rule)
        if self.command_deadline is not None and unit.command_deadline_s is None:
            seconds = parse_duration(self.command_deadline)
            changed = msgspec.structs.replace(changed, command_deadline_s=seconds)
        return changed


def serve(settings: Settings, metrics_listen: str | None) -> NoReturn:
    """Run the server in the foreground."""
    client_local_server.run_in_foreground(settings.target, _serve_options(metrics_listen))


def server_start(settings: Settings, metrics_listen: str | None, timeout: str) -> None:
    """Start a server in the background."""
    options = _serve_options(metrics_listen)
    pid = client_local_server.start(
        settings.target, settings.console, options, parse_duration(timeout)
    )
    settings.console.write(str(pid))


def server_stop(settings: Settings, timeout: str) -> None:
    """Stop the server."""
    client_local_server.stop(settings.target, settings.console, parse_duration(timeout))


def server_status(settings: Settings) -> None:
    """Show the server's health."""
    with settings.client() as client:
        client_local_server.status(client, settings.console)


def init(settings: Settings, file: str) -> None:
    """Write a starter file and the schema beside it."""
    if file == "-":
        sys.stdout.write(config.init_text())
        return
    path = Path(file)
    beside = path.with_name("infra.schema.json")
    try:
        with path.open("x") as output:
            output.write(config.init_text())
        beside.write_bytes(_schema())
    except FileExistsError as error:
        raise problems.UNREADABLE_FILE.error(
            f"{file} exists already", hint="choose another name"
        ) from error
    except OSError as error:
        raise problems.UNREADABLE_FILE.error(f"{file}: {error.strerror}") from error
    settings.console.say(f"wrote {path} and {beside}; next: cloudctl apply {path}")


def schema() -> None:
    """Write the JSON Schema of the operator's file."""
    sys.stdout.write(_schema().decode())


def validate(settings: Settings, file: str) -> None:
    """Check a file without a server."""
    infrastructure = client_apply.load(file)
    pods = list(infrastructure.pods())
    counts = {
        "regions": len(infrastructure.regions),
        "zones": sum(len(region.zones) for region in infrastructure.regions),
        "pods": len(pods),
        "resources": sum(len(pod.resources) for _, pod in pods),
        "templates": sum(len(pod.templates) for _, pod in pods),
    }
    console = settings.console
    if console.is_machine:
        console.document("Validation", valid=True, file=file, name=infrastructure.name, **counts)
    else:
        console.write(
            f"{file} is valid: " + ", ".join(f"{count} {name}" for name, count in counts.items())
        )


def plan(settings: Settings, file: str, *, detailed_exitcode: bool) -> int:
    """Show what applying would change; 2 if that is anything and the caller wants to know."""
    infrastructure = client_apply.load(file)
    with settings.client() as client:
        answer = client.plan(infrastructure)
    client_apply.show_plan(settings.console, answer)
    return problems.EXIT_CHANGES if detailed_exitcode and answer.changes else 0


def apply(
    settings: Settings, file: str, *, approved: bool, cancel_work: bool, wait: str | None
) -> None:
    """Make the file what is declared; starts a local server if none runs."""
    infrastructure = client_apply.load(file)
    wait_s = APPLY_WAIT_S if wait is None else _wait_s(wait)
    console = settings.console
    client_local_server.ensure(settings.target, console)
    with settings.client() as client:
        client_apply.apply(
            client,
            console,
            infrastructure,
            approved=approved,
            cancel_work=cancel_work,
            wait_s=wait_s,
        )


def submit_words(settings: Settings, words: tuple[str, ...], options: SubmitOptions) -> None:
    """Submit one unit, given in words: resource, verb, then name=value."""
    if len(words) < 2:
        raise problems.BAD_ARGUMENT.error(
            "RESOURCE and VERB are missing",
            hint="cloudctl submit work RESOURCE VERB [name=value]…, or -f FILE",
        )
    resource, verb, *parameters = words
    unit = UnitSpec(resource=resource, commands=(parse_command(verb, tuple(parameters)),))
    _submit(settings, iter([options.over(unit)]), options)


def submit_file(settings: Settings, file: str, options: SubmitOptions) -> None:
    """Submit the units of a file, or of stdin as `-`."""
    with _opened(file) as stream:
        units = (
            options.over(unit) for unit in read_units("<stdin>" if file == "-" else file, stream)
        )
        _submit(settings, units, options)


def cancel(settings: Settings, ids: tuple[str, ...]) -> None:
    """Cancel units of work."""
    with settings.client() as client:
        records = [client.cancel(unit_id.removeprefix("work/")) for unit_id in ids]
    console = settings.console
    if console.is_machine or console.format == "name":
        console.records(view_of("work"), records)
        return
    for record in records:
        console.write(f"{record.id}: {_cancellation(record)}")


def retry(settings: Settings, ids: tuple[str, ...]) -> None:
    """Submit what is left of units that ended without success, as new units; prints their ids."""
    with settings.client() as client:
        units = [_rest_of(client.unit(unit_id.removeprefix("work/"))) for unit_id in ids]
        client_submit.submit(client, settings.console, units, key=None, wait_s=None)


def reset(settings: Settings, paths: tuple[str, ...]) -> None:
    """Bring back resources that were set aside."""
    with settings.client() as client:
        records = [client.reset(path.removeprefix("resource/")) for path in paths]
    settings.console.records(view_of("resources"), records)


def get(settings: Settings, kind: str, wanted: Filter, *, watch: bool) -> None:
    """Show records of a kind."""
    with settings.client() as client:
        client_get.get(client, settings.console, kind, wanted, watch=watch)


def describe(settings: Settings, words: tuple[str, ...]) -> None:
    """Show everything about one object, named by [KIND] NAME."""
    kind, name = words if len(words) == 2 else (None, words[0])
    if kind is None and name.startswith("work/"):
        kind, name = "work", name.removeprefix("work/")
    with settings.client() as client:
        client_get.describe(client, settings.console, kind, name)


def tree(settings: Settings, path: str, *, depth: int | None, only_failing: bool) -> None:
    """Show the supervision tree."""
    with settings.client() as client:
        client_tree.show_tree(
            client, settings.console, path, depth=depth, only_failing=only_failing
        )


def events(
    settings: Settings, wanted: Filter, *, follow: bool, after: int | None, kind: str | None
) -> None:
    """Show events, or follow them."""
    console = settings.console
    with settings.client() as client:
        if follow:
            client_get.follow_events(client, console, wanted, after, kind)
        else:
            console.records(view_of("events"), client_get.past_events(client, wanted, after, kind))


def verify(settings: Settings) -> None:
    """Check every promise against the event log."""
    with settings.client() as client:
        answer = client.verify()
    console = settings.console
    if console.is_machine:
        console.document("Verify", verify=answer)
    else:
        _show_verify(console, answer)
    if not answer.holds:
        broken = ", ".join(item.name for item in answer.invariants if not item.holds)
        raise problems.VERIFY_FAILED.error(broken)


def version(settings: Settings) -> None:
    """Show our version, and the server's if it runs."""
    console = settings.console
    ours = installed_version("cloudctl")
    try:
        with settings.client() as client:
            theirs: str | None = client.status().version
    except ProblemError:
        theirs = None
    if console.is_machine:
        console.document("Version", client=ours, server=theirs)
    else:
        console.write(f"cloudctl {ours}, server {theirs or 'not running'}")


def names(settings: Settings, kind: str, beginning: str) -> list[str]:
    """List names for shell completion; nothing if the server does not answer at once."""
    try:
        view = view_of(kind)
        with Client(settings.target, COMPLETION_S) as client:
            return [view.name_of(record) for record in view.fetch(client, beginning)][:200]
    except ProblemError:
        return []


def _cancellation(record: UnitRecord) -> str:
    """Say what has become, or will, of a unit somebody has just cancelled."""
    if record.state in TERMINAL:
        return record.state.value
    if record.state is UnitState.IN_DOUBT:
        return "will be cancelled when its device has told how far it is, if commands are left"
    if record.completed + 1 >= len(record.commands):
        return "will be cancelled when the command in hand ends, unless that completes it"
    return "will be cancelled when the command in hand ends"


def _rest_of(record: UnitRecord) -> UnitSpec:
    """Make a unit of the commands that are not applied; the key makes retrying twice retrying once."""
    if record.state not in TERMINAL - {UnitState.SUCCEEDED}:
        raise problems.RETRY_OF_WHAT.error(f"{record.id} is {record.state.value}")
    return UnitSpec(
        resource=record.resource,
        commands=record.commands[record.completed :],
        on_failure=record.on_failure,
        idempotency_key=f"retry-{record.id}",
        command_deadline_s=record.command_deadline_s,
    )


def _serve_options(metrics_listen: str | None) -> tuple[str, ...]:
    return () if metrics_listen is None else ("--metrics-listen", metrics_listen)


def _schema() -> bytes:
    return msgspec.json.format(msgspec.json.encode(config.schema()), indent=2) + b"\n"


def _wait_s(wait: str | None) -> float | None:
    """Read a --wait: `no` for not at all, 0 or nothing for ever, else a time."""
    if wait is None or wait == "no":
        return None
    return parse_duration(wait) or math.inf if wait else math.inf


def _submit(settings: Settings, units: Iterator[UnitSpec], options: SubmitOptions) -> None:
    with settings.client() as client:
        client_submit.submit(
            client,
            settings.console,
            units,
            key=options.idempotency_key,
            wait_s=_wait_s(options.wait),
        )


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise problems.UNREADABLE_FILE.error(f"{file}: {error.strerror}") from error
    with stream:
        yield stream


def _show_verify(console: Console, answer: VerifyAnswer) -> None:
    for item in answer.invariants:
        word = console.paint("holds", "32") if item.holds else console.paint("BROKEN", "31")
        console.write(f"{item.name:<10} {word}  {item.checked} checked  {item.detail}".rstrip())
        for violation in item.violations:
            console.write(f"    {violation}")
    unfinished = f", {answer.unfinished} unfinished" if answer.unfinished else ""
    console.write(f"{answer.events} events, {answer.units} units{unfinished}")
