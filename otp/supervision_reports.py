"""What both kinds of supervisor report about their children."""

from __future__ import annotations

from otp.child_spec import ChildSpec, ChildType
from otp.process import Pid
from otp.reports import Offender, ProgressReport, SupervisorLabel, SupervisorReport, bounded_text

__all__ = ["report_child", "report_progress"]


def report_child(
    me: Pid,
    label: SupervisorLabel,
    spec: ChildSpec,
    pid: Pid | None,
    reason: object,
    *,
    nb_children: int = 1,
) -> None:
    """Report what became of a child, or of `nb_children` that ended alike."""
    report = SupervisorReport(
        label=label,
        supervisor=repr(me),
        offender=_offender(spec, pid, nb_children),
        reason=reason,
        reason_text=bounded_text(reason),
    )
    me.runtime.reports.send(report)


def report_progress(me: Pid, spec: ChildSpec, pid: Pid, *, by_hand: bool) -> None:
    """Report a child that was started, if anybody wants to know."""
    reports = me.runtime.reports
    if reports.wants_progress:
        started = _offender(spec, pid, 1)
        reports.send(ProgressReport(supervisor=repr(me), started=started, by_hand=by_hand))


def _offender(spec: ChildSpec, pid: Pid | None, nb_children: int) -> Offender:
    return Offender(
        pid=None if pid is None else repr(pid),
        id=spec.id,
        restart=spec.restart.value,
        shutdown=str(spec.shutdown_s),
        child_type=ChildType(spec.type).value,
        significant=spec.significant,
        nb_children=nb_children,
    )
