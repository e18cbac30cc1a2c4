"""Makes Thespian's TCP system fit to be left alone: authenticated, on loopback, and gone with its parent.

`install` is called once, in the process that starts the actor system, before it does; admin, logger and
actors inherit it by fork. It replaces what Thespian offers no option for (Thespian 4.0.1):

* every frame carries an HMAC that is checked before it is unpickled, and is bounded in size;
* every listening socket is bound to 127.0.0.1;
* every process of the system lets go of inherited files, dies with its parent and on a fatal signal.
"""

from __future__ import annotations

import hmac
import logging
import multiprocessing
import pickle
from datetime import timedelta

from thespian.actors import ActorExitRequest, ChildActorExited
from thespian.system import multiprocTCPBase
from thespian.system.transport import IPBase, TCPTransport, streamBuffer

from otp.distribution.process_control import (
    close_inherited_files,
    die_with_parent,
    reset_fatal_signals,
)

__all__ = ["LOOPBACK", "MAX_FRAME_BYTES", "SealedPickle", "install", "restore_logging"]

LOOPBACK = "127.0.0.1"
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_HEADER_BYTES = 20
INCOMPLETE_FRAME_LIMIT = timedelta(seconds=30)  # Thespian holds an unfinished connection for 7 min
TAG_BYTES = 32


class SealedPickle:
    """Pickle behind an HMAC-SHA256: what was not made with the key is never unpickled."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def dumps(self, message: object) -> bytes:
        """Pickle and seal."""
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        return hmac.digest(self._key, body, "sha256") + body

    def loads(self, sealed: bytes) -> object:
        """Check the seal and unpickle.

        Raises:
            ValueError: the seal is not ours. Thespian drops the connection.
        """
        body = sealed[TAG_BYTES:]
        if not hmac.compare_digest(sealed[:TAG_BYTES], hmac.digest(self._key, body, "sha256")):
            raise ValueError("a frame with a wrong seal")
        return pickle.loads(body)  # noqa: S301 - the seal says that we wrote it


class BoundedBuffer(streamBuffer.ReceiveBuffer):  # type: ignore[misc]  # Thespian has no types
    """Thespian's receive buffer, refusing giant frames and endless headers."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self._header_bytes = 0

    def addMore(self, buf: bytes) -> None:  # noqa: N802 - Thespian's name
        """Take more bytes.

        Raises:
            ValueError: too much of them. Thespian drops the connection.
        """
        super().addMore(buf)
        self._header_bytes += len(buf)
        headless = self._size is None and self._header_bytes > MAX_HEADER_BYTES
        if headless or self.remainingAmount() > MAX_FRAME_BYTES:
            raise ValueError("a frame too large")


class NodeTransport(TCPTransport.TCPTransport):  # type: ignore[misc]  # Thespian has no types
    """The first object made in every process of the system, hence the place where a process is tamed."""

    def __init__(self, init_type: object, *args: object) -> None:
        if isinstance(init_type, TCPTransport.TCPEndpoint):
            parent = multiprocessing.parent_process()
            assert parent is not None
            assert parent.pid is not None
            close_inherited_files()
            die_with_parent(parent.pid)
            reset_fatal_signals()
        super().__init__(init_type, *args)


def install(key: bytes) -> None:
    """Harden Thespian in this process and all it forks; only processes with `key` understand each other."""
    sealed = SealedPickle(key)
    TCPTransport.serializer = sealed
    # The prebuilt acknowledgements must carry the seal as well.
    TCPTransport.ackMsg = streamBuffer.toSendBuffer(streamBuffer.ackPacket, sealed.dumps)
    TCPTransport.ackDataErrMsg = streamBuffer.toSendBuffer(
        streamBuffer.ackDataErrPacket, sealed.dumps
    )
    TCPTransport.ReceiveBuffer = BoundedBuffer
    TCPTransport.MAX_INCOMING_SOCKET_PERIOD = INCOMPLETE_FRAME_LIMIT
    IPBase.IPActorAddress.bindArgs = property(lambda self: ((LOOPBACK, self.bindname[1]),))
    # Thespian computes str() of every message several times a hop.
    for message in (ActorExitRequest, ChildActorExited):
        message.__str__ = lambda self: type(self).__name__
    multiprocTCPBase.ActorSystemBase.transportType = NodeTransport


_root, _manager = logging.root, logging.Logger.manager


def restore_logging() -> None:
    """Undo that an actor's log records travel through Thespian, which would send from whatever thread logs."""
    logging.root = logging.Logger.root = _root
    logging.Logger.manager = _manager
