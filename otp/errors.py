"""The errors of the OTP port. Exit reasons are values (`otp.exit_reason`); these carry them."""

from __future__ import annotations

from otp.bounded_text import bounded_text

__all__ = [
    "AlreadyPresentError",
    "AlreadyStartedError",
    "CallError",
    "CallTimeoutError",
    "CallbackFailedError",
    "CallingSelfError",
    "ChildRestartingError",
    "ChildRunningError",
    "ChildSpecError",
    "ExitError",
    "HandlerError",
    "HandlerNotFoundError",
    "IgnoredError",
    "MaxChildrenError",
    "NameTakenError",
    "NoProcessError",
    "NotFoundError",
    "OtpError",
    "ReceiveTimeoutError",
    "SimpleOneForOneError",
    "StartChildError",
    "StartError",
    "SupervisorError",
    "SupervisorFlagsError",
    "UndefinedCallbackError",
]


class OtpError(Exception):
    """Any error of this package."""


class ExitError(OtpError):
    """Raised in a process, it ends that process with `reason` (Erlang's `exit/1`).

    Nobody handles it inside the process unless it means to go on.
    """

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason[:500] if isinstance(self.reason, str) else bounded_text(self.reason)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({bounded_text(self.reason)})"


class CallError(ExitError):
    """A call brought no answer; `cause` says why. Uncaught, it ends the caller as in Erlang.

    `reason` is `(cause, ("gen_server", "call", (server, request)))`, OTP's shape.
    """

    def __init__(self, cause: object, server: object, request: object) -> None:
        super().__init__((cause, ("gen_server", "call", (server, request))))
        self.cause = cause
        self.server = server
        self.request = request

    def __str__(self) -> str:
        return f"the call to {bounded_text(self.server)} ended with {bounded_text(self.cause)}"


class NoProcessError(CallError):
    """There is no such process or name; cause `noproc`."""

    def __init__(self, server: object, request: object) -> None:
        super().__init__("noproc", server, request)


class CallTimeoutError(CallError):
    """The answer did not come in time. The server may still handle the request; its late answer is dropped."""

    def __init__(self, server: object, request: object) -> None:
        super().__init__("timeout", server, request)


class CallingSelfError(CallError):
    """A process called itself, which would wait for ever."""

    def __init__(self, server: object, request: object) -> None:
        super().__init__("calling_self", server, request)


class CallbackFailedError(OtpError):
    """A callback raised while its process handled a system message. Told to the caller; nothing has changed."""

    def __init__(self, callback: str, reason: object) -> None:
        super().__init__(f"{callback} failed: {bounded_text(reason)}")
        self.callback = callback
        self.reason = reason


class UndefinedCallbackError(OtpError):
    """A request came for which the server has no callback. It ends the server."""


class ReceiveTimeoutError(OtpError):
    """A receive got no wanted message in time."""


class StartError(ExitError):
    """A process could not be started; `reason` is why. A supervisor counts it as a failed start."""


class AlreadyStartedError(StartError):
    """The name (or child id) belongs to the living process `pid`."""

    def __init__(self, pid: object) -> None:
        super().__init__(("already_started", pid))
        self.pid = pid


class IgnoredError(StartError):
    """`init` returned `Ignore()`: there is deliberately no process. A supervisor keeps the spec."""

    def __init__(self) -> None:
        super().__init__("ignore")


class NameTakenError(OtpError):
    """`register` was refused: the name is taken, or the process is dead or has a name. OTP's badarg."""


class ChildSpecError(OtpError):
    """A child specification or supervisor flag is not valid; `fault` is OTP's name for it."""

    def __init__(self, fault: object, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class SupervisorFlagsError(ChildSpecError):
    """A flag of the supervisor itself is not valid."""


class SupervisorError(OtpError):
    """A supervisor refused a management call. Told to the caller; the supervisor is unharmed."""


class NotFoundError(SupervisorError):
    """The supervisor has no such child."""


class AlreadyPresentError(SupervisorError):
    """The child's spec is there, but it is not running: use `restart_child`."""


class ChildRunningError(SupervisorError):
    """The child is running."""


class ChildRestartingError(SupervisorError):
    """The child is about to be restarted."""


class SimpleOneForOneError(SupervisorError):
    """The children of a simple_one_for_one supervisor have no ids, only pids."""


class MaxChildrenError(SupervisorError):
    """The dynamic supervisor has `max_children` children already."""


class StartChildError(SupervisorError):
    """The child's start failed with `reason`."""

    def __init__(self, child_id: object, reason: object) -> None:
        super().__init__(f"child {bounded_text(child_id)} did not start: {bounded_text(reason)}")
        self.child_id = child_id
        self.reason = reason


class HandlerError(OtpError):
    """An event handler refused to be added, or failed and was removed. Told to the caller; the manager is unharmed.

    `reason` is what the handler refused with or returned wrongly, or `("EXIT", reason)` when it raised.
    """

    def __init__(self, handler: object, reason: object) -> None:
        super().__init__(f"event handler {bounded_text(handler)}: {bounded_text(reason)}")
        self.handler = handler
        self.reason = reason


class HandlerNotFoundError(HandlerError):
    """The event manager has no such handler; `reason` is OTP's word: bad_module or module_not_found."""
