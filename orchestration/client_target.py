"""Which server is meant, whether its process lives, and why its socket cannot be reached.

Everything the client knows of a server before it has an answer is in the run folder: the socket and
`serve.json`. The socket's name is the whole address, so there is nothing to configure.
"""

from __future__ import annotations

import errno
import grp
import pwd
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestration import problems
from orchestration.problems import ProblemError
from orchestration.state_folder import StateFolder, default_path

__all__ = ["Target", "choose_target"]

SCHEME = "unix://"
OUR_MODULE = b"orchestration.serve"


class Target(Struct, frozen=True, kw_only=True):
    """One server: that of a state folder, or that of a socket somebody named."""

    state: Path | None = None
    named: Path | None = None

    @property
    def socket(self) -> Path:
        """Find the server's socket."""
        if self.state is not None:
            return StateFolder(self.state).api_socket
        assert self.named is not None
        return self.named

    def serve_pid(self) -> int | None:
        """Find the living process of `cloudctl serve`, if there is one."""
        try:
            listed = msgspec.json.decode((self.socket.parent / "serve.json").read_bytes())
            pid = int(listed["serve"]["pid"])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            return None
        # A number may have been given to another process since.
        return pid if OUR_MODULE in command else None

    def unreachable(self, error: OSError) -> ProblemError:
        """Explain why connecting failed."""
        if error.errno in {errno.EACCES, errno.EPERM}:
            return problems.SOCKET_DENIED.error(f"{self.socket}: {_barrier(self.socket)}")
        if str(error) == "AF_UNIX path too long":
            return problems.BAD_ARGUMENT.error(f"{self.socket}: too long for a unix socket")
        reason = (
            "there is no socket" if error.errno == errno.ENOENT else (error.strerror or str(error))
        )
        pid = self.serve_pid()
        if pid is not None:
            return problems.NOT_READY.error(f"{self.socket}: {reason}; serve (pid {pid}) is up")
        return problems.NOT_RUNNING.error(f"{self.socket}: {reason}", hint=self._start_hint())

    def _start_hint(self) -> str:
        if self.state is None:
            return "start it: cloudctl serve, and name its socket with --server"
        return f"start one: cloudctl server start --state-dir {self.state}"


def choose_target(server: str | None, state_dir: str | None) -> Target:
    """Find the socket: the one named, else the one of the state folder.

    Raises:
        ProblemError: `server` is not of the form unix:///path.
    """
    if server is None:
        path = Path(state_dir) if state_dir else default_path()
        return Target(state=path.expanduser().absolute())
    path = Path(server.removeprefix(SCHEME))
    if not server.startswith(SCHEME) or not path.is_absolute():
        raise problems.BAD_ARGUMENT.error(
            f"--server {server!r}", hint="write unix:///path/to/api.sock"
        )
    return Target(named=path)


def _barrier(path: Path) -> str:
    """Name the first thing on the way to `path` that this account may not use."""
    shown = path
    for part in [*reversed(path.parents), path]:
        try:
            status = part.stat()
        except OSError:
            break
        shown = part
        last = status
    owner, group = _account(last.st_uid), _group(last.st_gid)
    kind = "socket" if stat.S_ISSOCK(last.st_mode) else "folder"
    return (
        f"the {kind} {shown} belongs to {owner}:{group} with mode {stat.S_IMODE(last.st_mode):04o}"
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
