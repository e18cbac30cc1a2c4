"""The environment a Thespian system is started with; Thespian reads most of it when it is imported."""

from __future__ import annotations

from pathlib import Path

__all__ = ["thespian_environment"]


def thespian_environment(log_file: Path) -> dict[str, str]:
    """Name the variables under which Thespian keeps to loopback and logs to `log_file` (at most 1 MiB, twice)."""
    return {
        "THESPIAN_BASE_IPADDR": "127.0.0.1",
        # The acknowledgement of a message is sent by the receiver's loop: whoever is busy for longer
        # loses it without a word. Only start orders travel this way, so this is long.
        "THESPIAN_TRANSMIT_TIMEOUT_PERIOD": "0:30",
        "THESPLOG_FILE": str(log_file),
        "THESPLOG_FILE_MAXSIZE": str(1024 * 1024),
        "THESPLOG_THRESHOLD": "WARNING",
        # What a full disk did not take must not stay in a buffer: `multiprocessing` flushes before it
        # forks, and no node could be started until there is room.
        "PYTHONUNBUFFERED": "1",
    }
