"""The demo: two zones, 2,000 units of work, a pod killed in the middle, and the proof that nothing was lost.

`make demo` runs it. Everything happens in a temporary state folder, through the command line, as an operator
would do it. The last line is for machines: `demo: ok units=2000 lost=0 overlapping=0 stale=0 heal_s=0.8`, or
`demo: FAILED` and why. Exit status 0 only if all of it holds; nothing is left running, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from benchmarks.local_server import LocalServer, marked_processes
from scripts.demo_judge import Verdict
from scripts.demo_libvirt import DomainWatch, left_out, start_libvirtd
from scripts.demo_run import DemoError, Run
from scripts.demo_story import Story

EXAMPLES = Path(__file__).parents[1] / "examples"
UNITS = 2_000
GONE_S = 5.0
INTERRUPTED = 130


def main() -> int:
    """Run the demo and print its last line."""
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument("--units", type=int, default=UNITS)
    options.add_argument("--simulated", action="store_true", help="leave libvirt out")
    chosen = options.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        verdict, healed_s = _demo(chosen.units, simulated=chosen.simulated)
    except KeyboardInterrupt:
        print("demo: FAILED interrupted")
        return INTERRUPTED
    except (DemoError, AssertionError, OSError) as error:
        print(f"{error}\ndemo: FAILED {str(error).splitlines()[0]}")
        return 1
    figures = (
        f"units={verdict.units} lost={verdict.lost} overlapping={verdict.overlapping} "
        f"stale={verdict.stale} heal_s={healed_s:.1f}"
    )
    print(f"demo: {'ok' if verdict.holds else 'FAILED'} {figures}")
    return 0 if verdict.holds else 1


def _demo(units: int, *, simulated: bool) -> tuple[Verdict, float]:
    """Start everything, run, and end everything whatever happened."""
    story = Story()
    reason = "--simulated was asked for" if simulated else left_out()
    with contextlib.ExitStack() as stack:
        try:
            server, watch = LocalServer(), None
            stack.callback(server.close)
            story.tell(f"state folder {server.folder}, removed at the end")
            if reason is None:
                libvirtd = start_libvirtd(server.folder / "libvirt")
                stack.callback(libvirtd.stop)
                server.env["CLOUDCTL_LIBVIRT"] = libvirtd.uri
                watch = DomainWatch(libvirtd.uri)
                stack.callback(watch.close)
                story.tell(f"a libvirtd of our own with its test hypervisor: {libvirtd.uri}")
            else:
                story.tell(f"without libvirt, its 20 machines are simulated ({reason})")
            file = EXAMPLES / ("two-zones.toml" if watch else "two-zones-simulated.toml")
            verdict, healed_s = Run(server, story, watch, units).go(file)
            _stop(server, verdict)
        except BaseException:
            # A second Ctrl-C must not keep the first one from cleaning up.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            raise
    story.summary(verdict, healed_s, reason)
    return verdict, healed_s


def _stop(server: LocalServer, verdict: Verdict) -> None:
    """Stop the server in order; whatever of it still runs afterwards is a complaint."""
    server.stop()
    begun = time.monotonic()
    while left := marked_processes(server.mark):
        if time.monotonic() - begun > GONE_S:
            verdict.complaints.append(f"processes left behind: {left}")
            return
        time.sleep(0.05)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
