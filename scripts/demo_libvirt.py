"""What libvirt itself says of the demo's machines: every change it made, in its order, and what exists now.

The watch is a connection of its own. It is open from before the first command until after the last, so
libvirt's test hypervisor, which forgets everything when its last client leaves, keeps its machines.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections import defaultdict
from pathlib import Path

try:
    import libvirt

    from drivers.libvirtd_private import PrivateLibvirtd, start
except ImportError:  # installed only where it could be compiled
    libvirt = None

__all__ = ["DomainWatch", "left_out", "start_libvirtd"]

PACKAGES = Path(__file__).parent / "debian_packages.sh"
WAKE_MS = 100
MARKER = "cloudctl-demo-marker"
CATCH_UP_S = 10.0


def left_out() -> str | None:
    """Say why the demo has to do without libvirt and which command brings it; None if it need not."""
    if os.geteuid() != 0:
        return "not root, and a libvirtd of our own needs it: run `sudo make demo`"
    if libvirt is not None and shutil.which("libvirtd", path=f"{os.defpath}:/usr/sbin:/sbin"):
        return None
    missing = subprocess.run([PACKAGES, "missing"], capture_output=True, text=True, check=False)
    packages = missing.stdout.strip()
    if packages:
        return (
            f"missing: run `apt-get install --no-install-recommends {packages}`, then `make demo`"
        )
    return "libvirt-python is not installed: run `make setup`"


def start_libvirtd(folder: Path) -> PrivateLibvirtd:
    """Start a libvirtd of our own in `folder`."""
    return start(folder)


class DomainWatch:
    """Listens to the lifecycle events of one libvirtd, on a thread of its own."""

    def __init__(self, uri: str) -> None:
        # Its errors are raised anyway; without a handler it also prints them.
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        # The loop only looks at `_open` between events, so it needs one now and then.
        self._timer = libvirt.virEventAddTimeout(WAKE_MS, lambda *_: None, None)
        self._open = True
        self._seen: dict[str, list[str]] = defaultdict(list)
        self._marker_seen = threading.Event()
        self._connection = libvirt.open(uri)
        self._registration = self._connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._changed, None
        )
        self._thread = threading.Thread(target=self._listen, name="libvirt-events", daemon=True)
        self._thread.start()

    def catch_up(self) -> None:
        """Wait until every event that has happened is seen: libvirt tells them in order.

        Raises:
            TimeoutError: libvirt is silent.
        """
        kind = self._connection.getType().lower()
        marker = self._connection.defineXML(
            f"<domain type='{kind}'><name>{MARKER}</name><memory>1024</memory>"
            "<os><type>hvm</type></os></domain>"
        )
        marker.undefine()
        if not self._marker_seen.wait(CATCH_UP_S):
            raise TimeoutError(f"libvirt has told no event for {CATCH_UP_S:.0f} s")

    def effects(self, name: str) -> list[str]:
        """What happened to the machine `name`: defined, started, stopped, undefined."""
        return list(self._seen[name])

    def exists(self, name: str) -> bool:
        """Whether there is a machine `name` now."""
        return name in {domain.name() for domain in self._connection.listAllDomains()}

    def epoch(self, name: str) -> tuple[int, ...] | None:
        """The epoch written on the machine `name`; None if there is no such machine or no epoch on it."""
        for domain in self._connection.listAllDomains():
            if domain.name() == name:
                found = re.search(r"epoch=['\"]([\d. ,]+)['\"]", domain.XMLDesc())
                return tuple(map(int, re.findall(r"\d+", found.group(1)))) if found else None
        return None

    def close(self) -> None:
        """Stop listening and let libvirt go."""
        self._open = False
        self._thread.join()
        libvirt.virEventRemoveTimeout(self._timer)
        with contextlib.suppress(libvirt.libvirtError):  # it may be gone already
            self._connection.domainEventDeregisterAny(self._registration)
            self._connection.close()

    def _listen(self) -> None:
        while self._open:
            libvirt.virEventRunDefaultImpl()

    def _changed(
        self, _connection: object, domain: libvirt.virDomain, event: int, detail: int, _data: object
    ) -> None:
        effect = {
            libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
            libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
            libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
            libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
        }.get(event)
        updated = event == libvirt.VIR_DOMAIN_EVENT_DEFINED and detail != (
            libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED
        )
        if effect == "undefined" and domain.name() == MARKER:
            self._marker_seen.set()
        if effect is not None and not updated:
            self._seen[domain.name()].append(effect)
