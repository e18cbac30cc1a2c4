"""Connections to libvirt, and what its errors mean in the words of the driver contract.

libvirt bounds no call by itself: keepalive does, and it needs libvirt's event loop, which runs here in a
thread of its own for the whole process. Source: libvirt 9.0 API reference, libvirt-host and virterror.
"""

from __future__ import annotations

import threading

from drivers.contract import (
    BusyError,
    DeniedError,
    DriverError,
    InvalidError,
    OutcomeUnknownError,
    UnreachableError,
    UnsupportedError,
)
from drivers.libvirt_binding import libvirt

__all__ = ["close_connection", "open_connection", "version_of", "wrapped"]

KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_MISSES = 3  # a call to a hung peer fails after about 4 s

_MEANING: dict[int, type[DriverError]] = {
    libvirt.VIR_ERR_NO_SUPPORT: UnsupportedError,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: UnsupportedError,
    libvirt.VIR_ERR_INVALID_ARG: InvalidError,
    libvirt.VIR_ERR_XML_ERROR: InvalidError,
    libvirt.VIR_ERR_XML_DETAIL: InvalidError,
    libvirt.VIR_ERR_OPERATION_INVALID: InvalidError,
    libvirt.VIR_ERR_DOM_EXIST: InvalidError,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT: InvalidError,
    libvirt.VIR_ERR_AUTH_FAILED: DeniedError,
    libvirt.VIR_ERR_AUTH_CANCELLED: DeniedError,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: DeniedError,
    libvirt.VIR_ERR_OPERATION_DENIED: DeniedError,
    libvirt.VIR_ERR_ACCESS_DENIED: DeniedError,
    libvirt.VIR_ERR_RESOURCE_BUSY: BusyError,
}

_starting = threading.Lock()
_started: list[threading.Thread] = []


def open_connection(uri: str, old: libvirt.virConnect | None) -> libvirt.virConnect:
    """Return `old` if it is still alive, else a new connection.

    Raises:
        UnreachableError: nobody answers at `uri`.
        DeniedError: the credentials are refused.
    """
    if old is not None and _is_alive(old):
        return old
    _start_events()
    if old is not None:
        close_connection(old)
    try:
        connection = libvirt.open(uri)
        _keep_alive(connection)
    except libvirt.libvirtError as error:
        raise wrapped(error, uri, begun=False) from error
    return connection


def close_connection(connection: libvirt.virConnect) -> None:
    """Let go of a connection, whether or not it still works."""
    try:
        connection.close()
    except libvirt.libvirtError:
        return  # it was gone already


def version_of(connection: libvirt.virConnect) -> int:
    """Ask for the library's version: what is dead does not answer.

    Raises:
        UnreachableError: nobody answers.
    """
    try:
        return int(connection.getLibVersion())
    except libvirt.libvirtError as error:
        raise wrapped(error, "libvirt", begun=False) from error


def wrapped(error: libvirt.libvirtError, subject: str, *, begun: bool) -> DriverError:
    """Say in the contract's words what `error` means.

    Args:
        error: what libvirt raised.
        subject: device or address, for the text.
        begun: whether the change had begun; then what is not a plain refusal leaves it unknown.
    """
    meaning = _MEANING.get(error.get_error_code())
    if meaning is None or (
        error.get_error_domain() == libvirt.VIR_FROM_RPC and meaning is not DeniedError
    ):
        meaning = OutcomeUnknownError if begun else UnreachableError
    return meaning(f"{subject}: {error.get_error_message() or error}")


def _is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False  # closed by an earlier try, which then found nobody


def _keep_alive(connection: libvirt.virConnect) -> None:
    try:
        connection.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_MISSES)
    except libvirt.libvirtError as error:
        # A hypervisor inside this process has no peer to lose.
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _start_events() -> None:
    with _starting:
        if _started:
            return
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
        thread.start()
        _started.append(thread)


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
