"""Checks of the keys that pods and resources share: the driver's name and its settings."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Collection
from datetime import date, time

from msgspec import UNSET, UnsetType

from config.findings import Findings, Where, did_you_mean
from config.problems import Code
from config.shape import BROKEN

__all__ = ["check_config", "check_driver", "installed_drivers"]

_LARGEST = 2**63


def installed_drivers() -> frozenset[str]:
    """Name the drivers that are installed, importing none of them."""
    found = importlib.metadata.entry_points(group="cloudctl.drivers")
    return frozenset(point.name for point in found)


def check_driver(
    driver: str | UnsetType, where: Where, drivers: Collection[str], findings: Findings
) -> None:
    """Report a driver that is not installed; `where` is the table it is named in."""
    if driver is UNSET or driver in drivers or driver == BROKEN:
        return
    installed = ", ".join(sorted(drivers)) or "none"
    hint = did_you_mean(driver, drivers, '"') or "install the package that brings it"
    place = Where(where.source, (*where.path, "driver"), "value")
    message = f'unknown driver "{driver}"'
    findings.add(Code.UNKNOWN_DRIVER, message, place, f"{hint} (installed: {installed})")


def check_config(config: dict[str, object] | UnsetType, where: Where, findings: Findings) -> None:
    """Report settings that JSON cannot carry to the driver: dates, nan and inf, huge integers."""
    if config is not UNSET:
        _check_value(config, Where(where.source, (*where.path, "config"), "value"), findings)


def _check_value(value: object, where: Where, findings: Findings) -> None:
    match value:
        case dict():
            for key, inner in value.items():
                _check_value(inner, Where(where.source, (*where.path, key), "value"), findings)
        case list():
            for number, inner in enumerate(value):
                _check_value(inner, Where(where.source, (*where.path, number), "value"), findings)
        case date() | time():
            findings.add(Code.WRONG_TYPE, "dates are not taken here", where, f'a text: "{value}"')
        case float() if not math.isfinite(value):
            findings.add(Code.OUT_OF_RANGE, f"{value} is not taken here", where, "a finite number")
        case int() if not -_LARGEST <= value < _LARGEST:
            findings.add(Code.OUT_OF_RANGE, f"{value} has more than 64 bits", where, "write a text")
