import os
import signal
import socket
import subprocess
import sys
import time

from otp.distribution.process_control import (
    descendants,
    find_by_environment,
    kill_and_wait,
    status,
)


def run(code, *args, **kwargs):
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, **kwargs)


def wait_until(condition, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_status_tells_running_stopped_and_dead_apart():
    process = run("import time; print('up', flush=True); time.sleep(60)")
    process.stdout.readline()
    found = status(process.pid)
    assert found.is_alive
    assert not found.is_stopped
    assert found.parent == os.getpid()

    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: status(process.pid).is_stopped)
    process.kill()
    wait_until(lambda: not status(process.pid).is_alive)
    process.communicate()

    assert status(process.pid) is None


def test_kill_and_wait_returns_when_stopped_processes_are_gone():
    processes = [run("import time; time.sleep(60)") for _ in range(3)]
    processes[0].send_signal(signal.SIGSTOP)

    left = kill_and_wait([each.pid for each in processes], 5.0)

    assert left == []
    assert not any(status(each.pid) for each in processes)
    for each in processes:
        each.communicate()


def test_kill_and_wait_of_nobody_is_at_once():
    assert kill_and_wait([2**22 + 1], 5.0) == []


def test_process_is_found_by_its_mark_and_no_other_value(tmp_path):
    process = run("input()", stdin=subprocess.PIPE, env={**os.environ, "TEST_MARK": str(tmp_path)})

    wait_until(lambda: find_by_environment("TEST_MARK", str(tmp_path)) == [process.pid])
    assert find_by_environment("TEST_MARK", str(tmp_path)[:-1]) == []
    process.communicate(b"\n")


DIES_WITH_PARENT = """
import os, sys, time
from otp.distribution.process_control import die_with_parent
parent = os.getpid()
if os.fork() == 0:
    die_with_parent(parent)
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_process_that_dies_with_its_parent_does():
    parent = run(DIES_WITH_PARENT)
    child = int(parent.stdout.readline())
    assert descendants(parent.pid) == [child]

    parent.kill()

    wait_until(lambda: (found := status(child)) is None or not found.is_alive)
    parent.communicate()


ADOPTED = """
import os, sys, time
from otp.distribution.process_control import become_subreaper, die_with_parent
become_subreaper()
launcher = os.getpid()
if os.fork() == 0:
    if os.fork() == 0:  # a daemon: its parent is gone in a moment
        die_with_parent(launcher)
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(0.1)
    os._exit(0)
time.sleep(60)
"""


def test_daemon_is_bound_to_the_process_that_adopts_it():
    launcher = run(ADOPTED)
    daemon = int(launcher.stdout.readline())
    assert status(daemon).parent == launcher.pid

    launcher.kill()

    wait_until(lambda: (found := status(daemon)) is None or not found.is_alive)
    launcher.communicate()


LETS_GO = """
import os, sys
from otp.distribution.process_control import close_inherited_files
close_inherited_files()
print(os.path.realpath(f"/proc/self/fd/{sys.argv[1]}"), flush=True)
input()
"""


def test_inherited_socket_is_let_go_and_its_number_stays_taken():
    ours, theirs = socket.socketpair()
    child = run(LETS_GO, str(theirs.fileno()), pass_fds=(theirs.fileno(),), stdin=subprocess.PIPE)
    theirs.close()

    assert child.stdout.readline().strip() == b"/dev/null"
    ours.settimeout(5.0)
    assert ours.recv(1) == b""  # the last holder has let go
    ours.close()
    child.communicate(b"\n")


def test_fatal_signal_kills_after_thespians_handlers_are_reset():
    child = run(
        "import os, signal\n"
        "from otp.distribution.process_control import reset_fatal_signals\n"
        "signal.signal(signal.SIGSEGV, lambda *_: None)\n"
        "reset_fatal_signals()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    child.communicate()

    assert child.returncode == -signal.SIGSEGV
