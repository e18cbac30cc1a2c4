"""Starts a libvirtd of one's own whose only hypervisor is libvirt's test driver.

Everything it writes is in one folder; it listens on a unix socket there and on no network, and loads no
other driver, so that the machine's own libvirt is not touched. It dies with the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from drivers.libvirt_binding import libvirt

__all__ = ["LibvirtdError", "PrivateLibvirtd", "start"]

START_S = 10.0
STOP_S = 5.0

_CONFIGURATION = """\
unix_sock_dir = "{folder}"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host}"
max_clients = 200
log_outputs = "3:file:{folder}/libvirtd.log"
"""


class LibvirtdError(Exception):
    """No private libvirtd can be had here; the text says what to install or where to look."""


class PrivateLibvirtd:
    """A running libvirtd; `stop` it, or it is killed with this process.

    The test driver forgets everything when its last connection closes: one is kept open here.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.uri = f"test+unix:///default?socket={folder}/libvirt-sock"
        self._process = process
        self._keeper = self._keep()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it; once more is harmless."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _keep(self) -> libvirt.virConnect:
        until = time.monotonic() + START_S
        while True:
            try:
                # No event loop is started for it: that one belongs to whoever wants events.
                return libvirt.open(self.uri)
            except libvirt.libvirtError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    self._process.kill()
                    self._process.wait()
                    raise LibvirtdError(f"{error}; see {self.folder}/libvirtd.log") from error
                time.sleep(0.02)


def start(folder: Path) -> PrivateLibvirtd:
    """Start one in `folder`, which is made if it is missing.

    Raises:
        LibvirtdError: libvirtd is not installed, or does not come up.
    """
    if not _installed("libvirtd") or not _installed("setpriv"):
        raise LibvirtdError(
            "libvirtd is not installed; apt-get install --no-install-recommends libvirt-daemon-system"
        )
    for name in ("", "run", "config", "cache", "no-drivers"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    configuration = folder / "libvirtd.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=uuid.uuid4()))
    command = ["setpriv", "--pdeathsig", "KILL", "libvirtd", "--config", str(configuration)]
    with (folder / "libvirtd.err").open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--pid-file", str(folder / "libvirtd.pid")],
            env={**os.environ, **_environment(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    return PrivateLibvirtd(folder, process)


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": _PATH,
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "LIBVIRT_DRIVER_DIR": str(folder / "no-drivers"),  # the test driver is built in
    }


# Daemons live in sbin, which an ordinary user's PATH leaves out.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _installed(program: str) -> bool:
    return shutil.which(program, path=_PATH) is not None
