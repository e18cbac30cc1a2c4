"""Where a server keeps its things: the state folder, and the run folder with the sockets.

The state folder holds what must survive (journal, cookie, devices, logs) and belongs to one `serve` at a
time. The run folder is `run` in it; since a unix socket's path is limited to 107 bytes, a deep state
folder has its run folder under /tmp, and `run` is a link to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from pathlib import Path

from orchestration import problems

__all__ = ["StateFolder", "default_path"]

LONGEST_RUN_PATH = 70  # bytes; leaves room for the longest socket name
COOKIE_BYTES = 32
NEEDED_BYTES = 2 * 1024 * 1024
PRIVATE = 0o700


def default_path() -> Path:
    """Name the state folder used when none is given."""
    if chosen := os.environ.get("CLOUDCTL_STATE_DIR"):
        return Path(chosen)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "cloudctl"


class StateFolder:
    """The paths of one server; nothing is touched before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.journal = self.path / "journal.db"
        self.cookie = self.path / "cookie"
        self.log = self.path / "log"
        self.devices = self.path / "devices"
        self.run = self._run_folder()
        self.api_socket = self.run / "api.sock"
        self.orchestration_socket = self.run / "orchestration.sock"
        self.devices_socket = self.run / "devices.sock"
        self.serve_record = self.run / "serve.json"
        self.launcher_record = self.run / "launcher.json"
        self._held: tuple[int, int] | None = (
            None  # device and inode of the lock file, once it is ours
        )

    def prepare(self) -> None:
        """Create what is missing.

        Raises:
            ProblemError: the folder cannot be written, is somebody else's, or has too little space.
        """
        try:
            self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self._require_space()
            self.log.mkdir(mode=PRIVATE, exist_ok=True)
            self.devices.mkdir(mode=PRIVATE, exist_ok=True)
            self._prepare_run()
            self._prepare_cookie()
        except OSError as error:
            raise problems.BAD_STATE_FOLDER.error(f"{self.path}: {error}") from error

    def read_cookie(self) -> bytes:
        """Read the secret that every node of this server proves on its links."""
        return self.cookie.read_bytes().strip()

    def lock(self) -> int:
        """Take the folder for this process; the lock lasts as long as the returned file is open.

        Raises:
            ProblemError: another process has it.
        """
        held = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(held, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(held)
            raise problems.ALREADY_RUNNING.error(f"{self.path} (pid {pid})") from None
        with contextlib.suppress(OSError):  # on a full disk the lock holds, only without a name
            os.ftruncate(held, 0)
            os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        found = os.fstat(held)
        self._held = found.st_dev, found.st_ino
        return held

    def is_lost(self) -> bool:
        """Whether the lock file is not the one that was locked: somebody removed it, or the whole folder."""
        try:
            found = (self.path / "lock").stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a folder that cannot be looked into just now is still there
            return False
        return (found.st_dev, found.st_ino) != self._held

    def leave_run(self) -> None:
        """Remove a run folder under /tmp when the server has stopped; one in the state folder stays."""
        if self.run.parent != self.path:
            shutil.rmtree(self.run, ignore_errors=True)

    def _run_folder(self) -> Path:
        run = self.path / "run"
        if len(os.fsencode(run)) <= LONGEST_RUN_PATH:
            return run
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(f"/tmp/cloudctl-{os.getuid()}-{digest}")  # noqa: S108 - checked by _prepare_run

    def _require_space(self) -> None:
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        if free < NEEDED_BYTES:
            raise problems.DISK_FULL.error(
                f"{self.path}: {free // 1024} KiB are free, {NEEDED_BYTES // 1024} KiB are needed",
                hint="make room, then start again",
            )

    def _prepare_run(self) -> None:
        self.run.mkdir(mode=PRIVATE, exist_ok=True)
        found = self.run.lstat()
        # Under /tmp somebody else may have been here first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{self.run} is not a folder of ours")
        self.run.chmod(PRIVATE)
        link = self.path / "run"
        if self.run != link and not (link.is_symlink() and link.readlink() == self.run):
            link.unlink(missing_ok=True)
            link.symlink_to(self.run)

    def _prepare_cookie(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if len(self.read_cookie()) == 2 * COOKIE_BYTES:
                self.cookie.chmod(0o600)
                return
        fresh = self.cookie.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as text:
            text.write(secrets.token_hex(COOKIE_BYTES) + "\n")
        fresh.rename(self.cookie)
