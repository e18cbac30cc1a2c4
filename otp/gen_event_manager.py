"""The event manager: it hands each event to its handlers, newest first, and survives their failures.

Where a failing handler is removed: `EventManager._follow`. An event whose handlers do not wait costs no coroutine:
`_deliver` is the hot path, and `_deliver_rest` takes over at the first result that is no plain `Ok`.

Source: gen_event(3) and gen_event.erl of OTP 25 to 27, checked against a running OTP 25.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from otp import sys_process
from otp.address import Name
from otp.callback_results import CallResult, NoReply, Result, Stop
from otp.callback_results import Reply as Answer
from otp.erlang import link, unlink
from otp.errors import HandlerError, HandlerNotFoundError
from otp.exit_reason import NORMAL, SHUTDOWN
from otp.gen_event_handler import HandlerName, NewHandler, is_handler, split_name
from otp.gen_event_installed import Installed, Raising, call, failure, settled, tell
from otp.gen_event_process import EventPid
from otp.gen_event_results import Ok, RemoveHandler, Reply, SwapHandler
from otp.gen_server import GenServer
from otp.process import Exit, Pid
from otp.reports import EventHandlerReport, bounded_text
from otp.runtime import Runtime
from otp.supervision_answers import Refused
from otp.waiting import From

__all__ = ["Ask", "EventManager"]


class Ask:
    """A call to the manager: "add_handler", "call", "sync_notify", ..."""

    __slots__ = ("arguments", "order")

    def __init__(self, order: str, *arguments: Any) -> None:
        self.order = order
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"({self.order}, {', '.join(bounded_text(each) for each in self.arguments)})"


class EventManager(GenServer[list[Installed]]):
    """An event manager to be started; it has no callbacks of the user's, only handlers that are added later.

    Args:
        hibernate_after_s: idle so long, it hibernates.
    """

    __slots__ = ("_hibernate_after_s",)

    behaviour = "gen_event"
    pid: EventPid

    def __init__(self, *, hibernate_after_s: float | None = None) -> None:
        self._hibernate_after_s = hibernate_after_s

    def start_in(self, runtime: Runtime, *, parent: Pid | None, name: Name | None) -> Pid:
        """Start this manager in `runtime`, linked to `parent` if there is one."""
        runtime.claim_name(name)
        pid = EventPid(runtime, parent, self, self._hibernate_after_s)  # type: ignore[arg-type]  # its pid is narrower
        if parent is not None:
            pid.links = parent
            parent.add_link(pid)
        if name is not None:
            runtime.register(name, pid)
        pid.begin()
        return pid

    def init(self) -> list[Installed]:
        self.trap_exit()
        return []

    def handle_call(self, request: object, from_: From, state: list[Installed]) -> Any:
        self.pid.hibernate = False
        if not isinstance(request, Ask):  # OTP: a message like any other
            return self._deliver("handle_info", ("$gen_call", from_, request)) or NoReply(state)
        if request.order == "sync_notify":
            waiting = self._deliver("handle_event", *request.arguments)
            return Answer(None, state) if waiting is None else self._answer_after(waiting)
        return self._answer(request)

    def handle_cast(self, request: object, state: list[Installed]) -> Any:
        self.pid.hibernate = False
        return self._deliver("handle_event", request) or NoReply(state)

    def handle_info(self, message: object, state: list[Installed]) -> Any:
        self.pid.hibernate = False
        if isinstance(message, Exit):
            return self._take_exit(message)
        return self._deliver("handle_info", message) or NoReply(state)

    async def terminate(self, reason: object, state: list[Installed]) -> None:
        for handler in state:
            await self._end(handler, "stop", SHUTDOWN)
        for handler in state:
            if handler.supervisor is not None and handler.supervisor is not self.pid.parent:
                unlink(handler.supervisor)  # the manager's end is not its affair

    # What sys asks for.

    def system_get_state(self, state: list[Installed]) -> list[tuple[type, object, object]]:
        """Show the handlers as (class, id, state), newest first."""
        return [handler.shown() for handler in state]

    def system_replace_state(
        self, change: Callable[[Any], Any], state: list[Installed]
    ) -> tuple[object, list[Installed]]:
        """Change the states one by one; a change that raises, or renames a handler, leaves that handler alone."""
        for handler in state:
            module, handler_id, _ = handler.shown()
            try:
                new_module, new_id, new_state = change(handler.shown())
            except Exception:  # noqa: BLE001, S112 - OTP's rule: that handler keeps its state
                continue
            if (new_module, new_id) == (module, handler_id):
                handler.state = new_state
        return self.system_get_state(state), state

    def format_status(self, status: dict[str, object]) -> dict[str, object]:
        """Let every handler say what may be seen of it."""
        shown = []
        log = status["log"]
        for handler in self._handlers:
            part = sys_process.formatted(handler.module, {"state": handler.state, "log": log})
            log = part["log"]
            shown.append((type(handler.module), handler.id, part["state"]))
        return {"state": shown, "log": log}

    @property
    def _handlers(self) -> list[Installed]:
        handlers: list[Installed] = self.pid.state
        return handlers

    # Events.

    def _deliver(self, callback: str, message: object) -> Awaitable[Result[list[Installed]]] | None:
        """Hand `message` to all handlers; what is returned has to be awaited for the rest."""
        handlers = self._handlers
        for position, handler in enumerate(handlers):
            result = call(getattr(handler.module, callback), message, handler.state)
            if type(result) is not Ok:
                return self._deliver_rest(callback, message, handlers[position:], result)
            handler.state = result.state
            if result.hibernate:
                self.pid.hibernate = True
        return None

    async def _deliver_rest(
        self, callback: str, message: object, rest: list[Installed], result: Any
    ) -> Result[list[Installed]]:
        await self._follow(rest[0], await settled(result), (callback, message), Ok)
        for handler in rest[1:]:
            result = call(getattr(handler.module, callback), message, handler.state)
            await self._follow(handler, await settled(result), (callback, message), Ok)
        return NoReply(self._handlers)

    async def _follow(
        self,
        handler: Installed,
        result: Any,
        last: tuple[str, object],
        wanted: type[Ok[Any] | Reply[Any]],
    ) -> bool:
        """Do what a callback, the first in `last`, returned; False when that was nothing it may return."""
        if type(result) is wanted:
            handler.state = result.state
            self.pid.hibernate |= result.hibernate
        elif type(result) is RemoveHandler:
            self._handlers.remove(handler)
            await self._end(handler, "remove_handler", NORMAL)
        elif type(result) is SwapHandler and is_handler(result.new):
            handler.state = result.state
            await self._swap_in_place(handler, result.args, result.new)
        else:
            reason = failure(result)
            self._handlers.remove(handler)
            self._report(handler, reason, last)
            await self._end(handler, ("error", reason), reason)
            return False
        return True

    async def _swap_in_place(self, old: Installed, args: object, new: NewHandler) -> None:
        place = self._handlers.index(old)
        del self._handlers[place]
        following = Installed(*split_name(new), old.supervisor)
        handed = await self._end(old, args, ("swapped", following.name, old.supervisor))
        try:
            await self._begin(following, failure(handed))
        except HandlerError as error:
            self._report(following, error.reason, ("init_swapped", ("swap_handler", old.name)))
            tell(following, error.reason)
        else:
            self._handlers.insert(place, following)

    async def _take_exit(self, message: Exit) -> Result[list[Installed]]:
        mine = [each for each in self._handlers if each.supervisor is message.pid is not None]
        for handler in mine:
            self._handlers.remove(handler)
            await self._end(handler, ("stop", message.reason), SHUTDOWN)
        waiting = self._deliver("handle_info", message)
        if waiting is not None:
            await waiting
        self.pid.hibernate = False  # OTP's rule
        return NoReply(self._handlers)

    # Calls.

    async def _answer_after(self, waiting: Awaitable[object]) -> CallResult[list[Installed]]:
        await waiting
        return Answer(None, self._handlers)

    async def _answer(self, ask: Ask) -> CallResult[list[Installed]]:
        answer: object = None
        try:
            match ask.order:
                case "call":
                    answer = await self._ask_handler(*ask.arguments)
                case "add_handler":
                    await self._add(*ask.arguments)
                case "delete_handler":
                    answer = await self._delete(*ask.arguments)
                case "swap_handler":
                    await self._swap(*ask.arguments)
                case "which_handlers":
                    answer = [handler.name for handler in self._handlers]
        except HandlerError as error:
            answer = Refused(error)
        return Answer(answer, self._handlers)

    async def _ask_handler(self, name: HandlerName, request: object) -> object:
        handler = self._find(name)
        if handler is None:
            raise HandlerNotFoundError(name, "bad_module")
        result = await settled(call(handler.module.handle_call, request, handler.state))
        if not await self._follow(handler, result, ("handle_call", request), Reply):
            raise HandlerError(name, failure(result))
        return result.value

    async def _add(self, new: NewHandler, supervisor: Pid | None) -> None:
        handler = Installed(*split_name(new), supervisor)
        await self._begin(handler)
        self._handlers.insert(0, handler)

    async def _delete(self, name: HandlerName, args: object) -> object:
        handler = self._find(name)
        if handler is None:
            raise HandlerNotFoundError(name, "module_not_found")
        self._handlers.remove(handler)
        value = await self._end(handler, args, NORMAL)
        if isinstance(value, Raising):
            raise HandlerError(name, value.value)
        return value

    async def _swap(
        self, name: HandlerName, args: object, new: NewHandler, supervisor: Pid | None
    ) -> None:
        old = self._find(name)
        following = Installed(*split_name(new), supervisor)
        handed: object = "error"
        if old is not None:
            self._handlers.remove(old)
            following.supervisor = supervisor or old.supervisor
            handed = await self._end(old, args, ("swapped", following.name, following.supervisor))
        await self._begin(following, failure(handed))
        self._handlers.insert(0, following)

    def _find(self, name: HandlerName) -> Installed | None:
        module, handler_id = split_name(name)
        for handler in self._handlers:
            if type(handler.module) is module and handler.id == handler_id:
                return handler
        return None

    # A handler's beginning and end.

    async def _begin(self, handler: Installed, *handed: object) -> None:
        """Run init, or init_swapped with what was handed over.

        Raises:
            HandlerError: it refused, or raised.
        """
        module = handler.module
        module.pid = self.pid
        if handler.supervisor is not None:
            link(handler.supervisor)
        result = await settled(call(module.init_swapped if handed else module.init, *handed))
        if type(result) is Stop:
            raise HandlerError(handler.name, result.reason)
        if type(result) is Raising:
            raise HandlerError(handler.name, result.value)
        if type(result) in _NO_STATE:
            raise HandlerError(handler.name, result)
        if type(result) is Ok:
            self.pid.hibernate |= result.hibernate
            result = result.state
        handler.state = result

    async def _end(self, handler: Installed, args: object, reason: object) -> object:
        """Run terminate and tell the supervising process; gives what terminate returned, or `Raising`."""
        value = await settled(call(handler.module.terminate, args, handler.state))
        if isinstance(value, Raising):
            self._report(handler, value.value, ("terminate", ("terminate", args)))
        tell(handler, reason)
        return value

    def _report(self, handler: Installed, reason: object, last: tuple[str, object]) -> None:
        callback, event = last
        status = {"state": handler.state, "message": event, "reason": reason}
        shown = sys_process.formatted(handler.module, status)
        report = EventHandlerReport(
            handler=handler.title,
            manager=repr(self.pid),
            callback=callback,
            last_event=bounded_text(shown["message"]),
            state=bounded_text(shown["state"]),
            reason=shown["reason"],
            reason_text=bounded_text(shown["reason"]),
        )
        self.runtime.reports.send(report)


_NO_STATE: Final = frozenset({Reply, RemoveHandler, SwapHandler})  # from init: a mistake
