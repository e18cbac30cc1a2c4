import errno
import io

import pytest

from orchestration.node import SparedStream


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_log_line_that_finds_no_room_is_let_go():
    stream = SparedStream(FullDisk())

    assert stream.write("a line\n") == 7
    stream.flush()


def test_log_line_that_finds_room_is_written():
    written = io.StringIO()
    SparedStream(written).write("a line\n")

    assert written.getvalue() == "a line\n"


def test_other_errors_of_a_log_are_not_hidden():
    closed = io.StringIO()
    closed.close()

    with pytest.raises(ValueError, match="closed"):
        SparedStream(closed).write("a line\n")
