"""What the demo tells: a line for each thing that happens, progress in place, and the summary."""

from __future__ import annotations

import sys
import time

from scripts.demo_judge import Verdict

__all__ = ["Story"]

BAR = 40


class Story:
    """Tells it on stdout, with the time since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._told = 0.0

    def tell(self, text: str) -> None:
        """Say that something has happened."""
        self._clear()
        print(f"[{time.monotonic() - self._begun:5.1f} s] {text}", flush=True)

    def quote(self, text: str) -> None:
        """Repeat what a command has said."""
        self._clear()
        for line in text.splitlines():
            print(f"            {line}", flush=True)

    def progress(self, done: int, total: int) -> None:
        """Show how far it is: in place on a terminal, else a line every two seconds."""
        if sys.stdout.isatty():
            filled = BAR * done // max(total, 1)
            bar = "#" * filled + "." * (BAR - filled)
            print(f"\r            {bar} {done:,} of {total:,} finished", end="", flush=True)
        elif time.monotonic() - self._told > 2:
            self._told = time.monotonic()
            self.tell(f"{done:,} of {total:,} finished")

    def summary(self, verdict: Verdict, healed_s: float, left_out: str | None) -> None:
        """Say how it went, with whose word it is."""
        outcomes = ", ".join(f"{count:,} {state}" for state, count in verdict.outcomes.items())
        judges = "the devices' ledger" if left_out else "the devices' ledger and libvirt"
        seen = f"{verdict.commands:,} commands at simulated devices"
        if not left_out:
            seen += f", {verdict.changes:,} changes by libvirt"
        self.tell("summary")
        for name, value in (
            ("units by outcome", outcomes),
            ("from kill to all ready", f"{healed_s:.1f} s"),
            (f"according to {judges}", seen),
            ("  lost units", verdict.lost),
            ("  overlapping commands", verdict.overlapping),
            ("  stale epochs applied", f"{verdict.stale} ({verdict.refused} refused)"),
            ("cloudctl verify", verdict.verified),
        ):
            print(f"            {name:<48} {value}")
        for complaint in verdict.complaints:
            print(f"            WRONG: {complaint}")
        if left_out:
            print(f"            left out: libvirt ({left_out})")

    def _clear(self) -> None:
        if sys.stdout.isatty():
            print("\r\x1b[K", end="")
