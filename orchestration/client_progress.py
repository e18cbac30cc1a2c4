"""Progress on stderr: one line redrawn on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from orchestration.client_output import Console

__all__ = ["Progress"]

PLAIN_EVERY_S = 5.0
WIDTH = 30


class Progress:
    """How far something is. Use as a context manager, so that the line is ended."""

    def __init__(self, console: Console, what: str) -> None:
        self._what = what
        self._quiet = console.quiet
        self._terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\n")

    def update(self, done: int, of: int, note: str = "") -> None:
        """Show `done` of `of`."""
        if self._quiet:
            return
        if self._terminal:
            filled = WIDTH * done // of if of else WIDTH
            sys.stderr.write(f"\r\x1b[K{self._what} [{'#' * filled:<{WIDTH}}] {done}/{of} {note}")
            sys.stderr.flush()
            self._drawn = True
        elif time.monotonic() - self._shown_at >= PLAIN_EVERY_S:
            self._shown_at = time.monotonic()
            sys.stderr.write(f"{self._what} {done}/{of} {note}".rstrip() + "\n")
