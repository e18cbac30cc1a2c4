"""What enter_loop of gen_server and gen_statem share: which process may enter, and how sys ends it."""

from __future__ import annotations

from typing import Any

from otp import sys
from otp.address import Address, Name
from otp.errors import ExitError
from otp.node_names import Global
from otp.plain_process import PlainPid
from otp.proc_lib import ProcPid
from otp.sys_debug import Debug
from otp.waiting import From, self_process

__all__ = ["ToldToEnd", "answer_sys", "entering_process"]


class ToldToEnd(Exception):  # noqa: N818 - not an error: sys has ended the behaviour, its terminate has run
    """Leaves the loop, with the reason to end the process with."""

    def __init__(self, reason: object) -> None:
        self.reason = reason


def entering_process(name: Name | None) -> PlainPid:
    """Give the calling process, which is about to enter a loop under `name`.

    Raises:
        ExitError: it has not that name, or proc_lib did not start it.
    """
    me = self_process()
    if not isinstance(me, ProcPid):
        raise ExitError("process_was_not_started_by_proc_lib")
    if name is not None and me.runtime.whereis(name) is not me:
        if isinstance(name, Global):
            raise ExitError("process_not_registered_globally")
        if isinstance(name, Address):
            raise ExitError(("process_not_registered_via", type(name).__qualname__))
        raise ExitError("process_not_registered")
    return me


async def answer_sys(request: tuple[Any, ...], from_: From, module: object, debug: Debug) -> None:
    """Handle a system message for `module`, whose `system_terminate` ends the behaviour."""
    try:
        await sys.handle_system_msg(request, from_, module, debug, None)
    except ExitError as error:
        raise ToldToEnd(error.reason) from None
