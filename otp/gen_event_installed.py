"""A handler in its place in a manager, and how its callbacks are called so that their failures harm nobody else."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from typing import Any

from otp.exit_reason import reason_of
from otp.gen_event_handler import EventHandler, HandlerName, named
from otp.gen_event_results import GenEventExit
from otp.process import Pid
from otp.reports import bounded_text

__all__ = ["Installed", "Raising", "call", "failure", "settled", "tell"]


class Installed:
    """A handler in its place, with its state and the process that supervises it."""

    __slots__ = ("id", "module", "state", "supervisor")

    def __init__(
        self, module: EventHandler[Any], handler_id: object, supervisor: Pid | None
    ) -> None:
        self.module = module
        self.id = handler_id
        self.supervisor = supervisor
        self.state: Any = None

    def __repr__(self) -> str:
        return f"{self.title}: {bounded_text(self.state)}"

    @property
    def name(self) -> HandlerName:
        """What calls and deletes call it."""
        return named(type(self.module), self.id)

    @property
    def title(self) -> str:
        """Its name for reports."""
        shown = type(self.module).__qualname__
        return shown if self.id is None else f"({shown}, {bounded_text(self.id)})"

    def shown(self) -> tuple[type, object, object]:
        """What sys shows of it."""
        return type(self.module), self.id, self.state


class Raising:
    """What a callback gave that raised."""

    __slots__ = ("value",)

    def __init__(self, error: BaseException) -> None:
        self.value = ("EXIT", reason_of(error))


def call(callback: Callable[..., object], *arguments: object) -> Any:
    try:
        return callback(*arguments)
    except (Exception, CancelledError) as error:  # noqa: BLE001 - a failing handler harms only itself
        return Raising(error)


async def settled(result: Any) -> Any:
    """Wait for a result, if it has to be waited for."""
    if not isinstance(result, Awaitable):
        return result
    try:
        return await result
    except (Exception, CancelledError) as error:  # noqa: BLE001 - as in call
        return Raising(error)


def failure(value: object) -> object:
    return value.value if isinstance(value, Raising) else value


def tell(handler: Installed, reason: object) -> None:
    if handler.supervisor is not None:
        handler.supervisor.send(GenEventExit(handler.name, reason))
