"""simple_one_for_one: the process of a supervisor whose children are all made from one template.

Children have no ids: they are named by pid. `start_child(supervisor, args)` calls the template's start function with
its own arguments followed by `args`. All children stop at once.

Source: supervisor(3) of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from otp.callback_results import CallResult, Reply
from otp.child_spec import ChildSpec, ChildType, Restart, SupervisorFlags
from otp.dynamic_supervisor_process import DynamicServer
from otp.errors import ChildSpecError, SimpleOneForOneError
from otp.process import Pid
from otp.supervision_answers import ChildCounts, Refused, not_found
from otp.supervision_reports import report_progress
from otp.waiting import From

__all__ = ["SimpleServer"]


class SimpleServer(DynamicServer):
    """The process of a simple_one_for_one supervisor."""

    __slots__ = ("_stripped_template", "_template")

    behaviour = "supervisor"

    def __init__(self, flags: SupervisorFlags, template: ChildSpec) -> None:
        super().__init__(flags)
        self._template = template
        self._stripped_template = template.without_start()

    def handle_call(
        self, request: tuple[str, Any], from_: From, state: None
    ) -> CallResult[None] | Awaitable[CallResult[None]]:
        match request:
            case ("start_child", args):
                return self._start_with(args)
            case ("get_childspec", child):
                return Reply(self._spec_of(child), state)
            case ("terminate_child", Pid() as pid) if self._has_gone(pid):
                return Reply(None, state)
            case ("terminate_child" | "which_child", Pid()) | (
                "which_children" | "count_children",
                _,
            ):
                return super().handle_call(request, from_, state)
            case (
                "restart_child" | "delete_child" | "terminate_child" | "which_child",
                _,
            ):
                return Reply(_no_ids(), state)
            case _:
                raise self._undefined("handle_call", request)

    def _start_with(self, args: object) -> CallResult[None] | Awaitable[CallResult[None]]:
        if not isinstance(args, list | tuple):
            fault = ChildSpecError(("badarg", args), f"{args!r:.200} is no list of arguments")
            return Reply(Refused(fault), None)
        return self._start_child(replace(self._template, args=(*self._template.args, *args)))

    def _keep(self, pid: Pid, spec: ChildSpec, *, by_hand: bool) -> None:
        # Children started by hand make no progress report.
        if not by_hand:
            report_progress(self.pid, spec, pid, by_hand=False)
        self._children[pid] = self._stripped_template if spec.restart is Restart.TEMPORARY else spec

    def _has_gone(self, pid: Pid) -> bool:
        known = pid in self._children or pid in self._restarting
        return not known and not pid.is_alive()

    def _spec_of(self, child: object) -> ChildSpec | Refused:
        if isinstance(child, Pid):
            known = child in self._children or child in self._restarting
        else:
            known = child == self._template.id
        return self._template if known else not_found(child)

    def _counts(self) -> ChildCounts:
        restarting, running = len(self._restarting), len(self._children)
        supervisors = self._template.type is ChildType.SUPERVISOR
        total = restarting + running
        return ChildCounts(1, running, total if supervisors else 0, 0 if supervisors else total)


def _no_ids() -> Refused:
    text = "the children of a simple_one_for_one supervisor have no ids, only pids"
    return Refused(SimpleOneForOneError(text))
