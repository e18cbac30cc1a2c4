import pickle
import subprocess
import sys

import pytest
from thespian.system.transport import streamBuffer

from otp.distribution.hardening import MAX_FRAME_BYTES, BoundedBuffer, SealedPickle


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled what nobody sealed",))


def test_sealed_message_comes_back():
    sealed = SealedPickle(b"k" * 32)

    assert sealed.loads(sealed.dumps({"a": (1, b"x")})) == {"a": (1, b"x")}


@pytest.mark.parametrize("frame", [pickle.dumps(Bomb()), SealedPickle(b"other").dumps(Bomb()), b""])
def test_what_was_not_sealed_with_the_key_is_never_unpickled(frame):
    with pytest.raises(ValueError, match="seal"):
        SealedPickle(b"k" * 32).loads(frame)


def test_whole_frame_passes_the_bounded_buffer():
    sealed = SealedPickle(b"k" * 32)
    buffer = BoundedBuffer(sealed.loads)
    stream = streamBuffer.toSendBuffer(["message"] * 1000, sealed.dumps)

    for start in range(0, len(stream), 100):
        buffer.addMore(stream[start : start + 100])

    assert buffer.completed()[0] == ["message"] * 1000


def test_announced_giant_is_refused_at_its_header():
    with pytest.raises(ValueError, match="too large"):
        BoundedBuffer().addMore(b"%d>" % (MAX_FRAME_BYTES + 1))


def test_header_without_end_is_refused():
    buffer = BoundedBuffer()
    buffer.addMore(b"1" * 15)

    with pytest.raises(ValueError, match="too large"):
        buffer.addMore(b"1" * 15)


def test_installed_transport_listens_on_loopback_only():
    # In a process of its own: the installation is for good.
    code = (
        "from otp.distribution import hardening; hardening.install(b'k')\n"
        "from thespian.system.transport.IPBase import TCPv4ActorAddress as A\n"
        "print(A(None, 5555, external=('', 5555)).bindArgs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"THESPIAN_BASE_IPADDR": "127.0.0.1"},
    )

    assert done.stdout.strip() == "(('127.0.0.1', 5555),)"
