"""Finds drivers by name among the entry points `cloudctl.drivers` of all installed distributions.

A driver is imported when it is first asked for. One that cannot be loaded is reported by its name and
disables nothing but itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from msgspec import Struct

from drivers.contract import CONTRACT_VERSION, Driver, DriverInfo, FinalError

__all__ = [
    "ENTRY_POINT_GROUP",
    "Available",
    "BrokenDriverError",
    "UnknownDriverError",
    "available",
    "load",
    "names",
]

ENTRY_POINT_GROUP = "cloudctl.drivers"


class UnknownDriverError(FinalError):
    """No installed distribution offers a driver of that name; told to whoever named it."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"
        super().__init__(f"no driver is called {name!r}; {hint}")


class BrokenDriverError(FinalError):
    """The driver is installed and cannot be used; told to whoever named it."""

    def __init__(self, name: str, source: str, reason: str) -> None:
        self.name = name
        self.source = source
        self.reason = reason
        super().__init__(f"driver {name!r} from {source} cannot be used: {reason}")


class Available(Struct, frozen=True, kw_only=True):
    """One driver that is offered: by which distribution, and what it declares or why it is broken."""

    name: str
    source: str  # distribution and version, and the object in it
    info: DriverInfo | None = None
    error: str | None = None


def names() -> list[str]:
    """List the drivers offered, in name order, without importing any."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def available() -> dict[str, Available]:
    """Try every driver that is offered; in name order."""
    found = {}
    for name in names():
        source = ", ".join(_source(point) for point in _offers(name))
        try:
            found[name] = Available(name=name, source=source, info=load(name).info)
        except BrokenDriverError as error:
            found[name] = Available(name=name, source=source, error=error.reason)
    return found


def load(name: str) -> type[Driver]:
    """Return the driver class offered under `name`.

    Raises:
        UnknownDriverError: nobody offers it.
        BrokenDriverError: it cannot be imported, is not a driver of this contract, or two
            distributions offer different ones.
    """
    offers = _offers(name)
    if not offers:
        raise UnknownDriverError(name, names())
    if len(offers) > 1:
        both = " and ".join(_source(point) for point in offers)
        raise BrokenDriverError(name, both, "more than one is installed; uninstall all but one")
    (point,) = offers
    found = _import(point)
    for reason in _faults(found):
        raise BrokenDriverError(name, _source(point), reason)
    assert isinstance(found, type)
    return found


def _offers(name: str) -> list[EntryPoint]:
    # An editable install may be listed twice; the same object is the same offer.
    points = entry_points(group=ENTRY_POINT_GROUP, name=name)
    return list({point.value: point for point in points}.values())


def _source(point: EntryPoint) -> str:
    if point.dist is None:
        return point.value
    return f"{point.dist.name} {point.dist.version} ({point.value})"


def _import(point: EntryPoint) -> object:
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BrokenDriverError(point.name, _source(point), reason) from error


def _faults(found: object) -> Iterator[str]:
    """Name what keeps `found` from being a driver."""
    if not (inspect.isclass(found) and issubclass(found, Driver)):
        yield f"{found!r} is not a subclass of drivers.contract.Driver"
        return
    info = getattr(found, "info", None)
    if not isinstance(info, DriverInfo):
        yield f"{found.__name__}.info is not a DriverInfo"
    elif info.contract != CONTRACT_VERSION:
        yield f"it is written for contract {info.contract}; this is contract {CONTRACT_VERSION}"
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        yield f"{found.__name__} does not define {', '.join(missing)}"
