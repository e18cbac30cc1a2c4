"""Reports as text: over several lines or on one, in full or limited in depth and length.

    runtime.reports.subscribe(lambda report: print(format_report(report, single_line=True)))

Source: the report callbacks of supervisor, gen_server and proc_lib in OTP 25 to 27 (`depth`, `chars_limit`,
`single_line`); the words are ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from otp.reports import (
    CrashReport,
    EventHandlerReport,
    Neighbour,
    Offender,
    ProgressReport,
    Report,
    ServerReport,
    StatemReport,
    SupervisorReport,
    bounded_text,
)

__all__ = ["format_report"]

Part = tuple[str, object]  # what it is, and a text or a term


def format_report(
    report: Report,
    *,
    depth: int | None = None,
    chars_limit: int | None = None,
    single_line: bool = False,
) -> str:
    """Write `report` as text.

    Args:
        report: what to write.
        depth: how deep nested terms are shown; the report's own bounds by default.
        chars_limit: how many characters there may be at most; the longest parts are cut first.
        single_line: everything on one line.
    """
    parts = [(name, _text(value, depth)) for name, value in _parts(report)]
    joint = "\n  "
    if single_line:
        joint = "; "
        parts = [(name, " ".join(text.split())) for name, text in parts]
    if chars_limit is not None:
        parts = _limited(parts, chars_limit, len(joint))
    text = joint.join(f"{name}: {text}" for name, text in parts)
    return text if chars_limit is None else text[:chars_limit]


def _parts(report: Report) -> Iterator[Part]:
    match report:
        case SupervisorReport():
            yield f"{report.label.value} in supervisor", _Raw(report.supervisor)
            yield "reason", report.reason
            yield from _offender("offender", report.offender)
        case ProgressReport():
            yield "progress in supervisor", _Raw(report.supervisor)
            yield from _offender("started", report.started)
        case CrashReport():
            yield from _crash(report)
        case EventHandlerReport():
            yield "event handler failed", _Raw(f"{report.handler} of {report.manager}")
            yield "reason", report.reason
            yield "callback", _Raw(report.callback)
            yield "last event", _Raw(report.last_event)
            yield "state", _Raw(report.state)
        case ServerReport():
            yield from _server(report)


def _offender(role: str, child: Offender) -> Iterator[Part]:
    if child.nb_children > 1:
        yield "nb_children", child.nb_children
    elif child.pid is not None:
        yield role, _Raw(child.pid)
    yield "id", child.id
    yield "restart", _Raw(child.restart)
    yield "shutdown_s", _Raw(child.shutdown)
    yield "type", _Raw(child.child_type)
    if child.significant:
        yield "significant", child.significant


def _crash(report: CrashReport) -> Iterator[Part]:
    yield "crash of", _Raw(report.process)
    if report.label is not None:
        yield "label", _Raw(report.label)
    yield "initial call", _Raw(report.initial_call)
    yield "reason", report.reason
    yield "ancestors", _Raw(", ".join(report.ancestors))
    yield "message_queue_len", report.message_queue_len
    if report.messages:
        yield "messages", _Raw(", ".join(report.messages))
    yield "links", _Raw(", ".join(report.links))
    yield "trap_exit", report.trap_exit
    yield "reductions", report.reductions
    for neighbour in report.neighbours:
        yield "neighbour", _Raw(_neighbour(neighbour))


def _neighbour(neighbour: Neighbour) -> str:
    label = f" {neighbour.label}" if neighbour.label else ""
    links = ", ".join(neighbour.links)
    return f"{neighbour.process}{label} ({neighbour.initial_call}), linked to {links}"


def _server(report: ServerReport) -> Iterator[Part]:
    kind = "state machine" if isinstance(report, StatemReport) else "server"
    yield f"{kind} terminating", _Raw(f"{report.process} ({report.behaviour})")
    if report.label is not None:
        yield "label", _Raw(report.label)
    yield "reason", report.reason
    if isinstance(report, StatemReport):
        yield "queue", _Raw(", ".join(report.queue))
        yield "postponed", _Raw(", ".join(report.postponed))
        yield "time-outs", _Raw(", ".join(report.timeouts))
    else:
        yield "callback", _Raw(report.callback or "none")
        yield "last message", _Raw(report.last_message)
    yield "state", _Raw(report.state)
    if report.log:
        yield "log", _Raw(", ".join(report.log))


class _Raw(str):
    """A text that is shown as it is."""

    __slots__ = ()


def _text(value: object, depth: int | None) -> str:
    return str(value) if isinstance(value, _Raw) else bounded_text(value, depth)


def _limited(parts: list[tuple[str, str]], chars_limit: int, joint: int) -> list[tuple[str, str]]:
    """Cut the longest texts until all fit."""
    fixed = sum(len(name) + 2 + joint for name, _ in parts)
    room = max(0, chars_limit - fixed)
    lengths = sorted(len(text) for _, text in parts)
    longest = 0
    for index, length in enumerate(lengths):
        share = room // (len(lengths) - index)
        longest = max(longest, min(length, share))
        room -= min(length, share)
    return [(name, _cut(text, max(longest, 1))) for name, text in parts]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
