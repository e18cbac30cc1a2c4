import subprocess
import sys
from collections import OrderedDict, deque, namedtuple
from dataclasses import dataclass

import pytest

from otp import (
    CallError,
    ExitError,
    GenServer,
    Hibernate,
    Raised,
    StartChildError,
    StartError,
    StopReply,
    format_report,
)
from otp.bounded_text import MAX_TEXT, bounded_text
from otp.errors import CallbackFailedError, HandlerError


class Raising:
    def __repr__(self):
        raise RuntimeError("no repr")


class Endless:
    def __repr__(self):
        return f"<{self!r}>"


class Wrong:
    def __repr__(self):
        return 7


class Loud:
    def __repr__(self):
        return "loud " * 10**6


class list_named(list):  # noqa: N801 - like a type of somebody else
    pass


list_named.__name__ = "dict"  # reprlib goes by the name


@dataclass
class Linked:
    next: object = None


def containing_itself():
    ring, record = [], Linked()
    ring.append(ring)
    record.next = record
    return [ring, record]


def nested():
    term = []
    for _ in range(100_000):
        term = [term]
    return term


NASTY = {
    "text": lambda: "x" * 10**7,
    "bytes": lambda: b"x" * 10**7,
    "number": lambda: 10**100_000,
    "negative number": lambda: -(10**100_000),
    "list": lambda: ["x" * 10**6] * 10**6,
    "set": lambda: set(range(10**5)),
    "dict": lambda: dict.fromkeys(range(10**4), "x" * 10**6),
    "deque": lambda: deque(["x" * 10**6] * 100),
    "subclass": lambda: OrderedDict.fromkeys(["x" * 10**6, "y" * 10**6]),
    "misnamed": lambda: list_named(["x" * 10**6]),
    "named tuple": lambda: namedtuple("Pair", "one two")("x" * 10**7, Raising()),
    "nested": nested,
    "cyclic": containing_itself,
    "raising": Raising,
    "endless": Endless,
    "wrong": Wrong,
    "loud": Loud,
    "key": lambda: {Raising(): Endless()},
    "error": lambda: ValueError("x" * 10**7, Raising(), nested()),
    "group": lambda: ExceptionGroup("g" * 10**6, [ValueError("x" * 10**6)] * 1000),
    "reason": lambda: Raised(ValueError(Endless(), "x" * 10**7), (("file", 1, "f"),) * 20),
}


@pytest.mark.parametrize("kind", list(NASTY))
def test_any_term_has_a_bounded_text(kind):
    text = bounded_text(NASTY[kind]())

    assert 0 < len(text) <= MAX_TEXT


@pytest.mark.parametrize("kind", list(NASTY))
@pytest.mark.parametrize(
    "make",
    [
        ExitError,
        StartError,
        lambda term: CallError(term, "server", term),
        lambda term: CallbackFailedError("callback", term),
        lambda term: StartChildError(term, term),
        lambda term: HandlerError(term, term),
        lambda term: Raised(ValueError(term), ()),
    ],
)
def test_errors_say_what_they_carry_within_bounds(kind, make):
    error = make(NASTY[kind]())

    assert len(str(error)) < 2200
    assert len(repr(error)) < 2200


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (True, "True"),
        ([1, {2: (3,)}, {4}], "[1, {2: (3,)}, {4}]"),
        (OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (namedtuple("Pair", "one two")(1, [2]), "Pair(one=1, two=[2])"),
        (Linked(Linked("x")), "Linked(next=Linked(next='x'))"),
        ([10**100_000], "[<int of 332193 bits>]"),
        (StopReply("r", "yes", [1]), "StopReply(reason='r', state=[1], value='yes')"),
        (Hibernate(1.0, "m"), "Hibernate(absolute=False, after_s=1.0, message='m')"),
        (KeyError("k", [1]), "KeyError('k', [1])"),
        (int, "<class 'int'>"),
        (("EXIT", Raised(ValueError("x"), (("a", 1, "f"), ("b", 2, "g")))), None),
    ],
)
def test_ordinary_terms_are_shown_as_one_expects(term, text):
    assert bounded_text(term) == (text or "('EXIT', ValueError('x') < b:2 g)")


def test_reason_shows_all_its_frames_the_innermost_first():
    reason = Raised(ValueError("x"), (("a", 1, "f"), ("b", 2, "g")))

    assert bounded_text(reason) == "ValueError('x') < b:2 g < a:1 f"
    assert str(reason) == "ValueError('x')\n  a:1 in f\n  b:2 in g"
    assert repr(reason) == "Raised(ValueError('x') < b:2 g < a:1 f)"


class Failing(GenServer):
    def init(self):
        return NASTY["list"]()

    def handle_call(self, request, from_, state):
        raise ValueError(request)


@pytest.mark.parametrize("kind", list(NASTY))
def test_server_that_fails_at_a_nasty_argument_is_reported_in_bounds(runtime, caplog, kind):
    reports = []
    runtime.reports.subscribe(reports.append)
    server = runtime.start(Failing())
    with pytest.raises(CallError) as failure:
        server.call(NASTY[kind]())

    assert isinstance(
        failure.value.cause.error, ValueError
    )  # the true reason, not one of the report
    assert failure.value.cause.stack[-1][2] == "handle_call"
    assert len(str(failure.value)) < 2 * MAX_TEXT
    assert [len(format_report(report)) < 3000 for report in reports] == [True, True]
    assert all(len(record.getMessage()) < 3000 for record in caplog.records)


def test_report_of_a_huge_text_takes_no_memory_of_that_size():
    script = (
        "import tracemalloc\n"
        "from otp.bounded_text import bounded_text\n"
        "huge = [ValueError('x' * 10**8), b'x' * 10**8, ['y' * 10**8]]\n"
        "tracemalloc.start()\n"
        "for each in huge: bounded_text(each)\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    peak = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert int(peak.stdout) < 10**6
