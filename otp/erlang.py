"""What every process can do: send, link, monitor, exit, timers, names. Erlang's built-in functions.

They act for the calling process; plain asyncio code uses the methods of `Runtime` instead.
"""

from __future__ import annotations

from otp.address import Name
from otp.bounded_text import bounded_text
from otp.envelope import DOOMED, INFO, Envelope
from otp.errors import NoProcessError
from otp.exit_reason import NOPROC
from otp.process import Down, Pid, Ref
from otp.runtime import Runtime
from otp.timers import TimerRef
from otp.waiting import Doomed, self_process

__all__ = [
    "cancel_timer",
    "demonitor",
    "exit",
    "link",
    "monitor",
    "read_timer",
    "register",
    "registered",
    "self_pid",
    "send",
    "send_after",
    "start_timer",
    "trap_exit",
    "unlink",
    "unregister",
    "whereis",
]


def self_pid() -> Pid:
    """Name the calling process."""
    return self_process()


def send(dest: Pid | Name, message: object) -> None:
    """Send `message`; to a dead pid it vanishes.

    Raises:
        NoProcessError: `dest` is a name that nobody has (OTP's badarg).
    """
    if not isinstance(dest, Pid):
        pid = self_process().runtime.whereis(dest)
        if pid is None:
            raise NoProcessError(dest, message)
        dest = pid
    dest.post(Envelope((INFO, message)))


def exit(pid: Pid, reason: object) -> None:  # noqa: A001 - Erlang's name
    """Send an exit signal; one that ends the caller itself does not return."""
    sender = self_process()
    pid.exit_signal(sender, reason)
    if sender.status == DOOMED and pid is sender:
        raise Doomed


def trap_exit(on: bool = True) -> None:  # noqa: FBT001, FBT002 - process_flag(trap_exit, true)
    """From now on take exit signals as `Exit` messages, or no longer."""
    self_process().trapping = on


def link(pid: Pid) -> None:
    """Link to `pid`.

    Raises:
        TypeError: `pid` is no pid (OTP's badarg).
        NoProcessError: it is dead, and the caller does not trap exits; if it does, it gets an `Exit` with noproc.
    """
    me = self_process()
    if not isinstance(pid, Pid):
        raise TypeError(f"a process links to a pid, not to {bounded_text(pid)}")
    if pid is me:
        return
    if pid.is_alive():
        me.link(pid)
    elif me.trapping:
        me.link_signal(pid, NOPROC)
    else:
        raise NoProcessError(pid, "link")


def unlink(pid: Pid) -> None:
    """Take the link away; an `Exit` that is already in the mailbox stays there."""
    self_process().unlink(pid)


def monitor(target: Pid | Name) -> Ref:
    """Ask for a `Down` when `target` ends; at once, with noproc, if there is no such process."""
    me = self_process()
    pid = target if isinstance(target, Pid) else me.runtime.whereis(target)
    ref = Ref(me, pid, target)
    if pid is None or not pid.is_alive():
        ref.target = None
        me.post(Envelope((INFO, Down(ref, target, NOPROC))))
    elif pid is not me:  # of its own end nobody could be told: OTP sets nothing up either
        me.rare.monitors[ref] = None
        pid.watch(ref)
    return ref


def demonitor(ref: Ref, *, flush: bool = False) -> None:
    """End a monitor of the caller; `flush` removes a `Down` of it that is already in the mailbox."""
    me = self_process()
    me.rare.monitors.pop(ref, None)
    if ref.target is not None:
        ref.target.unwatch(ref)
        ref.target = None
    elif flush:
        for envelope in me.queued():
            if isinstance(envelope[1], Down) and envelope[1].ref is ref:
                me.remove(envelope)
                return


def send_after(
    dest: Pid | Name, delay_s: float, message: object, *, absolute: bool = False
) -> TimerRef:
    """Send `message` to `dest` after `delay_s` seconds; a name is looked up then.

    Args:
        dest: to whom.
        delay_s: how long to wait; with `absolute` a time of the runtime's clock, and one in the past is now.
        message: what to send.
        absolute: see `delay_s`.
    """
    runtime = self_process().runtime
    return runtime.send_after(dest, _delay_s(runtime, delay_s, absolute=absolute), message)


def start_timer(
    dest: Pid | Name, delay_s: float, message: object, *, absolute: bool = False
) -> TimerRef:
    """Send `("timeout", timer, message)` to `dest`: who cancels too late can tell which it was. Else as `send_after`."""
    runtime = self_process().runtime
    return runtime.start_timer(dest, _delay_s(runtime, delay_s, absolute=absolute), message)


def cancel_timer(timer: TimerRef) -> float | None:
    """Stop `timer`: the seconds it had left, or None if it has fired or was cancelled."""
    return self_process().runtime.cancel_timer(timer)


def read_timer(timer: TimerRef) -> float | None:
    """Tell the seconds `timer` has left, or None if it has fired or was cancelled."""
    return self_process().runtime.read_timer(timer)


def register(name: Name, pid: Pid) -> None:
    """Give `pid` a name; raises NameTakenError as `Runtime.register`."""
    self_process().runtime.register(name, pid)


def unregister(name: Name) -> None:
    """Free a name; raises NameTakenError if nobody has it."""
    self_process().runtime.unregister(name)


def whereis(name: Name) -> Pid | None:
    """Find the process of that name."""
    return self_process().runtime.whereis(name)


def registered() -> list[str]:
    """List the names in use."""
    return self_process().runtime.registered()


def _delay_s(runtime: Runtime, time_s: float, *, absolute: bool) -> float:
    return max(0.0, time_s - runtime.clock()) if absolute else time_s
