from __future__ import annotations

import io
import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

import cli
from orchestration.records import CommandSpec, UnitState
from orchestration.state_folder import StateFolder
from tests.orchestration.live_api import LiveApi, live_api, small_infrastructure

VM = "eu/a/rack-1/vm-1"
TOML = """
[infrastructure]
name = "acme"
[region.eu.zone.a.pod.rack-1]
driver = "simulated"
[region.eu.zone.a.pod.rack-1.resource."vm-{1..COUNT}"]
class = "vm"
"""


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveApi]:
    with live_api() as server:
        server.run(server.orchestrator.apply(small_infrastructure(), None, False))
        monkeypatch.setenv("CLOUDCTL_SERVER", server.url)
        yield server


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    file = tmp_path / "infra.toml"
    file.write_text(TOML.replace("COUNT", "4"))
    return file


class Ran:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(capsys):
    def run(*words: object) -> Ran:
        status = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


def cloudctl(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, words)]
    return subprocess.run(
        command,
        check=False,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


# Start-up.


def test_help_imports_neither_server_nor_parsers():
    script = "import sys, cli; cli.main(['--help']); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(ended.stderr.split())

    heavy = {
        "rich",
        "asyncio",
        "thespian",
        "starlette",
        "jsonschema",
        "msgspec",
        "http.client",
        "tomli",
        "config",
    }
    assert "click" in loaded
    assert not loaded & heavy


def test_help_answers_within_its_budget():
    spent_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        cloudctl("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    assert min(spent_s) < 0.150  # of the processor's time, which a busy machine does not stretch


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    assert "_CLOUDCTL_COMPLETE" in run("completion", shell).out


def test_completion_knows_names_from_the_server(live):
    words = {
        "_CLOUDCTL_COMPLETE": "zsh_complete",
        "COMP_WORDS": "cloudctl get resources eu/a/rack-1/v",
        "COMP_CWORD": "3",
    }

    assert VM in cloudctl(**words).stdout


def test_completion_without_a_server_is_silent(tmp_path):
    words = {
        "_CLOUDCTL_COMPLETE": "zsh_complete",
        "COMP_WORDS": "cloudctl get resources e",
        "COMP_CWORD": "3",
    }
    ended = cloudctl(**words, CLOUDCTL_STATE_DIR=str(tmp_path))

    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "", "")


# Exit codes and errors.


def test_unknown_command_is_a_usage_error_with_a_suggestion(run):
    ended = run("aply")

    assert ended.status == 64
    assert "apply" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("get", "pots"),
        ("get", "pods", "-o", "xml"),
        ("get", "pods", "-l", "state"),
        ("get", "pods", "-l", "colour=red"),
        ("get", "work", "-l", "state=asleep"),
        ("submit", "work", VM),
        ("submit", "work", VM, "create", "memory"),
        ("submit", "work", VM, "create", "--on-failure", "never"),
        ("submit", "work", VM, "create", "--wait=soon"),
        ("submit", "work", VM, "create", "--idempotency-key", ""),
        ("submit", "work", VM, "create", "-f", "x.toml"),
        ("describe", "pod", "a", "b"),
        ("tree", "--depth", "9"),
    ],
)
def test_wrong_words_exit_64(run, live, words):
    ended = run(*words)

    assert (ended.status, ended.out) == (64, "")
    assert "Traceback" not in ended.err


def test_no_server_exits_4_with_the_command_that_starts_one(run, tmp_path):
    ended = run("get", "pods", "--state-dir", tmp_path)

    assert ended.status == 4
    assert "CLOUDCTL-E0260" in ended.err
    assert f"cloudctl server start --state-dir {tmp_path}" in ended.err


def test_state_folder_comes_from_the_environment(tmp_path):
    ended = cloudctl("get", "pods", CLOUDCTL_STATE_DIR=str(tmp_path / "mine"))

    assert str(tmp_path / "mine") in ended.stderr


def test_option_before_the_command_counts_too(run, tmp_path):
    assert str(tmp_path) in run("--state-dir", tmp_path, "get", "pods").err


def test_unknown_name_exits_1_and_says_where_to_look(run, live):
    ended = run("get", "resources", "eu/a/rack-1/none")

    assert ended.status == 1
    assert "CLOUDCTL-E0211" in ended.err
    assert "hint: list them: cloudctl get resources" in ended.err


def test_debug_shows_the_traceback(tmp_path):
    ended = cloudctl("--debug", "get", "pods", "--state-dir", tmp_path)

    assert "Traceback" in ended.stderr


def test_reader_that_leaves_is_no_error(live):
    command = f"{sys.executable} -m cli get resources -o json | true"
    ended = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)

    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("where", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")]
)
@pytest.mark.parametrize("words", ["get resources", "get resources --debug", "--help"])
def test_output_that_goes_nowhere_is_one_line_and_exit_74(live, where, why, words):
    command = f"{sys.executable} -m cli {words} {where}"
    ended = subprocess.run(command, shell=True, check=False, stderr=subprocess.PIPE, text=True)

    assert (ended.returncode, ended.stderr) == (
        74,
        f"error: standard output cannot be written: {why}\n",
    )


def test_closed_stderr_keeps_the_data(live):
    command = f"{sys.executable} -m cli get regions -o name 2>&-"
    ended = subprocess.run(command, shell=True, check=False, stdout=subprocess.PIPE, text=True)

    assert (ended.returncode, ended.stdout) == (0, "region/eu\n")


# Files.


def test_bad_file_exits_65_and_shows_every_mistake(run, tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[infrastructure]\nnames = 1\n[region.eu.zone.a]\nintensity = -1\n")
    ended = run("validate", file)

    assert ended.status == 65
    assert f"{file}:2:1" in ended.err
    assert f"{file}:4:" in ended.err
    assert "\x1b[" not in ended.err


def test_valid_file_is_counted(run, infra):
    assert "1 pods, 4 resources" in run("validate", infra).out
    assert run("validate", infra, "-o", "json").json["resources"] == 4


def test_missing_file_exits_65(run, live, tmp_path):
    assert run("plan", tmp_path / "none.toml").status == 65
    assert run("submit", "work", "-f", tmp_path / "none.toml").status == 65


def test_init_writes_a_valid_file_and_never_overwrites(run, tmp_path):
    file = tmp_path / "new.toml"
    first, again = run("init", file), run("init", file)

    assert (first.status, again.status) == (0, 65)
    assert run("validate", file).status == 0
    assert json.loads((tmp_path / "infra.schema.json").read_text()) == run("schema").json


# Plan and apply.


def test_plan_shows_symbols_and_sums(run, live, infra):
    ended = run("plan", infra)

    assert "    + resource eu/a/rack-1/vm-4" in ended.out
    assert "    ~ resource" not in ended.out
    assert ended.out.endswith("Plan: 1 to add, 0 to change, 0 to destroy.\n")


def test_plan_exits_2_on_changes_only_when_asked(run, live, infra):
    assert run("plan", infra).status == 0
    assert run("plan", infra, "--detailed-exitcode").status == 2
    run("apply", infra, "-y")
    assert run("plan", infra, "--detailed-exitcode").status == 0


def test_apply_without_terminal_and_approval_changes_nothing(run, live, infra, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    ended = run("apply", infra)

    assert ended.status == 64
    assert "--auto-approve" in ended.err
    assert live.orchestrator.revision == 1


def test_apply_applies_what_was_shown(run, live, infra):
    ended = run("apply", infra, "--auto-approve")

    assert ended.status == 0
    assert "Applied: revision 2." in ended.out
    assert "4 resources in 1 pods are ready" in ended.err
    assert live.orchestrator.declared.name == "acme"


def test_apply_of_what_is_already_so_changes_nothing(run, live, infra):
    run("apply", infra, "-y")
    ended = run("apply", infra)

    assert (ended.status, live.orchestrator.revision) == (0, 2)
    assert "No changes" in ended.out


def test_apply_that_does_not_converge_exits_124(run, live, infra):
    live.orchestrator.resource_state = "synchronising"
    ended = run("apply", infra, "-y", "--wait=0.3s")

    assert ended.status == 124
    assert "4 of 4 resources are not ready after 0.3 s, in eu/a/rack-1" in ended.err
    assert live.orchestrator.revision == 2


def test_apply_that_is_interrupted_while_it_waits_says_what_is_applied(run, live, infra):
    live.orchestrator.resource_state = "synchronising"
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        ended = run("apply", infra, "-y", "--wait=60s")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert ended.status == 130
    assert "no longer waiting; revision 2 is applied" in ended.err


def test_apply_counts_resources_made_on_demand_in_both_figures(run, live, infra):
    live.orchestrator.resource_state = "synchronising"
    live.orchestrator.on_demand = 9
    ended = run("apply", infra, "-y", "--wait=0.3s")

    assert "13 of 13 resources are not ready after 0.3 s, in eu/a/rack-1" in ended.err


def test_apply_does_not_wait_for_what_is_set_aside_by_it(run, live, infra):
    live.orchestrator.aside = {"eu/a/rack-1/vm-4"}  # as soon as it is there
    ended = run("apply", infra, "-y", "--wait")

    assert ended.status == 124
    assert "1 resources are set aside" in ended.err
    assert "eu/a/rack-1/vm-4" in ended.err


def test_apply_does_not_fail_for_what_was_set_aside_before(run, live, infra):
    run("apply", infra, "-y", "--wait")
    live.orchestrator.aside = {"eu/a/rack-1/vm-4"}
    ended = run("apply", infra, "-y", "--wait")

    assert ended.status == 0
    assert (
        "3 resources in 1 pods are ready; 1 set aside before are left so: eu/a/rack-1/vm-4"
        in ended.err
    )


def test_apply_that_touches_what_was_set_aside_waits_for_it(run, live, infra):
    run("apply", infra, "-y", "--wait")
    live.orchestrator.aside = {"eu/a/rack-1/vm-4"}
    infra.write_text(f"{infra.read_text()}config.vcpus = 9\n")
    ended = run("apply", infra, "-y", "--wait")

    assert ended.status == 124
    assert "1 resources are set aside" in ended.err


def test_apply_without_wait_returns_at_once(run, live, infra):
    live.orchestrator.resource_state = "synchronising"

    assert run("apply", infra, "-y", "--no-wait").status == 0


def test_apply_that_would_drop_work_needs_cancel_work(run, live, tmp_path):
    run("submit", "work", "eu/a/rack-1/vm-3", "create")
    file = tmp_path / "less.toml"
    file.write_text(TOML.replace("COUNT", "2"))
    refused = run("apply", file, "-y")
    done = run("apply", file, "-y", "--cancel-work")

    assert (refused.status, done.status) == (1, 0)
    assert "eu/a/rack-1/vm-3" in refused.err
    assert "1 units of work wait there" in refused.out


def read_until(fd: int, text: str, timeout_s: float = 20.0) -> str:
    seen = ""
    deadline = time.monotonic() + timeout_s
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"never came: {text!r} in {seen!r}"
        try:
            seen += os.read(fd, 65536).decode()
        except OSError:  # the other side has closed
            break
    return seen


@pytest.mark.parametrize(
    ("reply", "status", "revision"), [("yes\n", 0, 2), ("no\n", 1, 1), ("\n", 1, 1)]
)
def test_apply_on_a_terminal_asks_first(live, infra, reply, status, revision):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "apply", str(infra)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    asked = read_until(ours, "Only 'yes'")
    os.write(ours, reply.encode())
    read_until(ours, "\0")
    os.close(ours)

    assert "to add" in asked
    assert process.wait(20) == status
    assert live.orchestrator.revision == revision


@pytest.mark.parametrize(
    ("environment", "words", "colored"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"TERM": "dumb"}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({}, ["--color", "never"], False),
    ],
)
def test_colours_on_a_terminal_follow_the_wishes(live, environment, words, colored):
    ours, theirs = pty.openpty()
    clean = {
        name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    command = [sys.executable, "-m", "cli", *words, "tree"]
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean | {"TERM": "xterm"} | environment,
    )
    os.close(theirs)
    seen = read_until(ours, "\0")
    os.close(ours)

    assert process.wait(20) == 0
    assert "rack-1" in seen
    assert ("\x1b[" in seen) is colored


# Work.


def test_submit_prints_only_the_id_on_stdout(run, live):
    ended = run("submit", "work", VM, "create", "memory=1GiB", "cpus=2", "tags:=[1]")

    assert (ended.status, ended.out, ended.err) == (0, "u-000001\n", "")
    (command,) = live.orchestrator.unit("u-000001").commands
    assert command.params == {"memory": "1GiB", "cpus": 2, "tags": [1]}


def test_submit_options_reach_the_unit(run, live):
    run("submit", "work", VM, "create", "--on-failure", "wait,attempts=7", "--deadline", "5m",
        "--command-deadline", "10s", "--idempotency-key", "mine")  # fmt: skip
    unit = live.orchestrator.unit("u-000001")

    assert live.orchestrator.keys == {"mine": "u-000001"}
    assert (unit.on_failure.strategy, unit.on_failure.attempts, unit.on_failure.deadline_s) == (
        "wait",
        7,
        300.0,
    )


def test_submit_twice_with_one_key_gives_one_unit(run, live):
    first = run("submit", "work", VM, "create", "--idempotency-key", "mine")
    again = run("submit", "work", VM, "create", "--idempotency-key", "mine")

    assert first.out == again.out
    assert len(live.orchestrator.records) == 1


def test_submit_waits_with_a_bare_wait_before_other_words(run, live):
    live.orchestrator.finish_at_once = True
    ended = run("submit", "work", "--wait", VM, "create")

    assert (ended.status, ended.out) == (0, "u-000001\n")
    assert "1 succeeded" in ended.err


def test_submit_that_is_waited_for_and_fails_exits_3(run, live):
    def fail() -> None:
        while "u-000001" not in live.orchestrator.records:
            time.sleep(0.01)
        live.run(live.orchestrator.finish("u-000001", UnitState.FAILED, "no such \x1b[2Jimage"))

    threading.Thread(target=fail).start()
    ended = run("submit", "work", VM, "create", "--wait=20s")

    assert (ended.status, ended.out) == (3, "u-000001\n")
    assert "u-000001 failed: no such  [2Jimage" in ended.err


def test_submit_whose_wait_is_over_exits_124(run, live):
    ended = run("submit", "work", VM, "create", "--wait=0.2s")

    assert (ended.status, ended.out) == (124, "u-000001\n")
    assert live.orchestrator.unit("u-000001").state is UnitState.PENDING


def test_submit_with_wait_as_json_prints_the_final_records(run, live):
    live.orchestrator.finish_at_once = True
    ended = run("submit", "work", VM, "create", "--wait", "-o", "json")

    assert ended.json["kind"] == "WorkList"
    assert ended.json["items"][0]["state"] == "succeeded"


def test_submit_from_a_pipe_goes_in_chunks(run, live, monkeypatch):
    line = json.dumps({"resource": VM, "commands": [{"verb": "create"}]}) + "\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((line * 4500).encode())))
    ended = run("submit", "work", "-f", "-")

    assert live.orchestrator.batches == [2000, 2000, 500]
    assert ended.out.splitlines() == [f"u-{number:06}" for number in range(1, 4501)]


def test_submit_that_breaks_in_a_later_chunk_says_what_is_accepted(run, live, tmp_path):
    line = json.dumps({"resource": VM, "commands": [{"verb": "create"}]}) + "\n"
    bad = json.dumps({"resource": "eu/none", "commands": [{"verb": "create"}]}) + "\n"
    file = tmp_path / "work.jsonl"
    file.write_text(line * 2001 + bad)
    ended = run("submit", "work", "-f", file)
    key = re.search(r"--idempotency-key (\w+)", ended.err)
    file.write_text(line * 2002)
    assert key is not None
    again = run("submit", "work", "-f", file, "--idempotency-key", key[1])

    assert ended.status == 1
    assert len(ended.out.splitlines()) == 2000
    assert "the 2000 units before are accepted" in ended.err
    assert "unit 2002: no resource 'eu/none'" in ended.err
    assert len(again.out.splitlines()) == len(live.orchestrator.records) == 2002


def test_submit_options_fill_what_a_file_leaves_open(run, live, tmp_path):
    file = tmp_path / "work.toml"
    file.write_text(
        f'[[work]]\nresource = "{VM}"\nverb = "create"\n'
        f'[[work]]\nresource = "{VM}"\nverb = "start"\non_failure = "wait,attempts=2"\n'
    )
    run("submit", "work", "-f", file, "--on-failure", "wait,attempts=9")
    first, second = live.orchestrator.records.values()

    assert (first.on_failure.attempts, second.on_failure.attempts) == (9, 2)


def test_full_disk_is_told_with_its_code(run, live):
    live.orchestrator.full = True
    ended = run("submit", "work", VM, "create")

    assert (ended.status, ended.out) == (1, "")
    assert "CLOUDCTL-E0250" in ended.err


def test_cancel_shows_the_cancelled_unit(run, live):
    run("submit", "work", VM, "create")

    assert run("cancel", "work", "u-000001", "-o", "json").json["items"][0]["state"] == "cancelled"


def test_cancel_says_what_will_become_of_the_unit(run, live):
    run("submit", "work", VM, "create")
    assert run("cancel", "work", "u-000001").out == "u-000001: cancelled\n"


@pytest.mark.parametrize(
    ("state", "completed", "says"),
    [
        (UnitState.EXECUTING, 0, "when the command in hand ends\n"),
        (UnitState.EXECUTING, 1, "unless that completes it"),
        (UnitState.IN_DOUBT, 0, "when its device has told how far it is"),
    ],
)
def test_cancel_of_work_at_its_device_says_when(run, live, monkeypatch, state, completed, says):
    run("submit", "work", VM, "create")
    command = CommandSpec(verb="set")

    async def cancel(unit_id):
        live.orchestrator.records[unit_id] = msgspec.structs.replace(
            live.orchestrator.records[unit_id],
            state=state,
            commands=(command, command),
            completed=completed,
            cancel_requested=True,
        )
        return live.orchestrator.records[unit_id]

    monkeypatch.setattr(live.orchestrator, "cancel", cancel)

    assert "u-000001: will be cancelled" in (out := run("cancel", "work", "u-000001").out)
    assert says in out


def test_retry_submits_what_is_left_once(run, live):
    run("submit", "work", VM, "create")
    record = live.orchestrator.records["u-000001"]
    commands = tuple(CommandSpec(verb=verb) for verb in ("create", "start", "set"))
    live.orchestrator.records["u-000001"] = msgspec.structs.replace(
        record, state=UnitState.QUARANTINED, commands=commands, completed=1
    )

    first = run("retry", "work", "u-000001").out
    again = run("retry", "work", "u-000001").out

    assert first == again == "u-000002\n"
    assert live.orchestrator.records["u-000002"].commands == commands[1:]


def test_retry_of_work_that_goes_on_is_refused(run, live):
    run("submit", "work", VM, "create")
    ended = run("retry", "work", "u-000001")

    assert (ended.status, len(live.orchestrator.records)) == (1, 1)
    assert "u-000001 is pending" in ended.err


def test_reset_brings_back_what_was_set_aside(run, live):
    live.orchestrator.resource_state = "set_aside"

    assert run("reset", "resource", VM, "-o", "name").out == f"resource/{VM}\n"
    assert "CLOUDCTL-E0233" in run("reset", "resource", VM).err


# Reading.


@pytest.mark.parametrize(
    ("kind", "name"),
    [("regions", "Region"), ("zones", "Zone"), ("pods", "Pod"), ("resources", "Resource"), ("work", "Work"),
     ("nodes", "Node"), ("events", "Event"), ("pod", "Pod"), ("unit", "Work")],
)  # fmt: skip
def test_get_as_json_is_a_versioned_list(run, live, kind, name):
    run("submit", "work", VM, "create")
    document = run("get", kind, "-o", "json").json

    assert (document["apiVersion"], document["kind"]) == ("cloudctl/v1", f"{name}List")
    assert document["items"]


@pytest.mark.parametrize(
    "kind", ["regions", "zones", "pods", "resources", "work", "nodes", "events"]
)
def test_get_says_the_same_in_every_format(run, live, kind):
    run("submit", "work", VM, "create")
    items = run("get", kind, "-o", "json").json["items"]
    lines = [json.loads(line) for line in run("get", kind, "-o", "jsonl").out.splitlines()]
    names = run("get", kind, "-o", "name").out.splitlines()
    table = run("get", kind, "--no-headers").out.splitlines()
    wide = run("get", kind, "-o", "wide").out.splitlines()

    assert lines == items == yaml.safe_load(run("get", kind, "-o", "yaml").out)["items"]
    assert len(names) == len(table) == len(wide) - 1 == len(items)


def test_get_nodes_gives_what_is_needed_to_find_a_process(run, live):
    pod = run("get", "nodes", "eu/a/rack-1", "-o", "json").json["items"][0]

    wanted = {"name": "eu/a/rack-1", "kind": "pod", "pid": 11, "epoch": [1, 2, 3], "state": "up"}
    assert pod | wanted == pod


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["resources", "eu/*/vm-[12]"], ["vm-1", "vm-2"]),
        (["resources", "eu/a/"], ["vm-1", "vm-2", "vm-3"]),
        (["resources", VM], ["vm-1"]),
        (["resources", "-l", "path=*-3"], ["vm-3"]),
        (["resources", "-l", "kind=vm,state=ready", "--limit", "2"], ["vm-1", "vm-2"]),
        (["resources", "-l", "on_demand=true"], []),
        (["pods", "eu/a/r"], ["rack-1"]),
    ],
)
def test_get_finds_by_pattern_beginning_and_label(run, live, words, names):
    lines = run("get", *words, "-o", "name").out.splitlines()

    assert [line.rpartition("/")[2] for line in lines] == names


def test_get_work_of_a_resource_and_in_a_state(run, live):
    for number in (1, 2, 1):
        run("submit", "work", f"eu/a/rack-1/vm-{number}", "create")
    run("cancel", "work", "u-000003")

    assert run("get", "work", VM, "-o", "name").out == "work/u-000001\nwork/u-000003\n"
    assert run("get", "work", "-l", "state=cancelled", "-o", "name").out == "work/u-000003\n"


def test_empty_table_is_a_note_on_stderr(run, live):
    ended = run("get", "work")

    assert (ended.status, ended.out, ended.err) == (0, "", "no work\n")


def test_text_of_a_device_cannot_drive_the_terminal(run, live):
    run("submit", "work", VM, "create")
    live.run(live.orchestrator.finish("u-000001", UnitState.FAILED, "bad\x1b[2J\nthing"))
    ended = run("get", "work")

    assert "\x1b" not in ended.out
    assert len(ended.out.splitlines()) == 2


def test_describe_guesses_the_kind_from_the_name(run, live):
    run("submit", "work", VM, "create")

    assert "unit.pending  u-000001" in run("describe", VM).out
    assert "in_flight: 0" in run("describe", "eu/a/rack-1").out
    assert run("describe", "work", "u-000001", "-o", "json").json["item"]["id"] == "u-000001"
    assert run("describe", "u-000001", "-o", "json").json["kind"] == "Work"


def test_tree_shows_the_way_and_what_hangs_below(run, live):
    whole = run("tree").out
    pod = run("tree", "eu/a/rack-1", "-o", "json").json["root"]

    assert re.search(r"└─ rack-1 .*\n.*├─ vm-1  ready", whole)
    assert [child["name"] for child in pod["children"]] == ["eu"]
    assert "vm-1" not in run("tree", "--depth", "3").out


def test_tree_of_failing_branches_leaves_the_good_ones_out(run, live):
    assert "vm-1" not in run("tree", "--only", "failing").out
    live.orchestrator.resource_state = "set_aside"
    assert "vm-1  set_aside" in run("tree", "--only", "failing").out


def test_tree_of_nothing_is_an_error(run, live):
    assert run("tree", "us").status == 1


def test_large_pod_is_summed_up_unless_all_is_asked_for(run, live):
    live.run(live.orchestrator.apply(small_infrastructure(100), None, False))

    assert "… and 80 ready" in run("tree").out
    assert "vm-77" in run("tree", "--depth", "4").out


def test_events_give_the_last_so_many(run, live):
    for _ in range(3):
        run("submit", "work", VM, "create")

    assert run("events", "--limit", "1", "-o", "name").out == "event/4\n"
    assert (
        len(run("events", "--kind", "unit.pending", "--after", "2", "-o", "jsonl").out.splitlines())
        == 2
    )


def test_events_follow_begins_with_the_last_few(live):
    live.run(live.orchestrator.apply(small_infrastructure(2), None, False))
    for _ in range(20):
        cli.main(["-q", "submit", "work", VM, "create"])
    command = [sys.executable, "-m", "cli", "events", "-f", "-o", "name"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(2)

    assert first == "event/13\n"


def test_events_follow_goes_on_until_interrupted(live):
    command = [sys.executable, "-m", "cli", "events", "-f", "-o", "jsonl"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        live.run(live.orchestrator.apply(small_infrastructure(5), None, False))
        second = json.loads(process.stdout.readline())
        process.send_signal(2)
        status = process.wait(10)
        noise = process.stderr.read()

    assert [first["seq"], second["seq"]] == [1, 2]
    assert (status, noise.strip()) == (130, "")


def test_watch_shows_what_changes(live):
    command = [sys.executable, "-m", "cli", "get", "resources", VM, "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        live.orchestrator.resource_state = "suspect"
        second = process.stdout.readline()
        process.send_signal(2)

    assert "ready" in first
    assert "suspect" in second


def test_verify_that_does_not_hold_exits_1(run, live):
    assert run("verify").status == 0

    async def broken():
        from orchestration.records import InvariantRecord, VerifyAnswer

        item = InvariantRecord(name="I2", holds=False, checked=9, violations=("two at once",))
        return VerifyAnswer(holds=False, events=1, units=1, unfinished=0, invariants=(item,))

    live.orchestrator.verify = broken
    ended = run("verify")

    assert ended.status == 1
    assert "two at once" in ended.out
    assert "CLOUDCTL-E0275" in ended.err


def test_version_and_status_answer(run, live):
    assert "server 0" in run("version").out
    assert run("server", "status", "-o", "yaml").out.startswith("apiVersion: cloudctl/v1\n")
    assert "revision      1" in run("server", "status").out


def test_stop_of_a_server_that_does_not_run_is_no_error(run, tmp_path):
    ended = run("server", "stop", "--state-dir", tmp_path)

    assert (ended.status, ended.out) == (0, "")
    assert "no server is running" in ended.err


def test_start_in_a_folder_that_cannot_be_made_says_why(run, tmp_path):
    (tmp_path / "file").write_text("")
    ended = run("server", "start", "--state-dir", tmp_path / "file" / "state")

    assert ended.status == 64
    assert "CLOUDCTL-E0276" in ended.err
    assert "Not a directory" in ended.err


def test_start_for_a_socket_is_refused(run):
    assert run("server", "start", "--server", "unix:///nowhere/api.sock").status == 64


def test_start_shows_why_the_server_ended(run, tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    lock = folder.lock()
    ended = run("server", "start", "--state-dir", folder.path)
    os.close(lock)

    assert ended.status == 1
    assert "CLOUDCTL-E0266" in ended.err
    assert f"pid {os.getpid()}" in ended.err


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like `serve` to those who look at its command line."""
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "orchestration.serve"]
    ) as process:
        folder.serve_record.write_text(json.dumps({"serve": {"pid": process.pid}}))
        # Collects the process when it ends: a zombie still has its number.
        threading.Thread(target=process.wait).start()
        yield process
        process.kill()


def test_stop_waits_until_the_server_is_gone(run, stand_in, tmp_path):
    ended = run("server", "stop", "--state-dir", tmp_path / "state")

    assert ended.status == 0
    assert f"server stopped: pid {stand_in.pid}" in ended.err
    assert stand_in.wait(5) == -15


def test_second_server_on_a_state_folder_is_refused_with_the_pid(run, stand_in, tmp_path):
    for words in (("serve",), ("server", "start")):
        ended = run(*words, "--state-dir", tmp_path / "state")

        assert ended.status == 1
        assert "CLOUDCTL-E0265" in ended.err
        assert f"pid {stand_in.pid}" in ended.err


def test_number_of_another_process_is_not_taken_for_the_server(run, tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.serve_record.write_text(json.dumps({"serve": {"pid": os.getpid()}}))

    assert "no server is running" in run("server", "stop", "--state-dir", folder.path).err
