"""requirements/*.txt say what pyproject.toml asks for, with hashes, and .venv is what they say."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked(name: str) -> dict[str, Requirement]:
    """The pins of a lock file by canonical name; refuses a pin without hashes."""
    pins: dict[str, Requirement] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text()):
        if entry.startswith("#"):
            continue
        pin = Requirement(entry.split("\\\n")[0].strip())
        assert "--hash=sha256:" in entry, f"{pin.name} has no hash"
        pins[canonicalize_name(pin.name)] = pin
    return pins


LOCK = locked("lock.txt")
LOCK_LIBVIRT = locked("lock-libvirt.txt")


def pinned_version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


def unmet(wanted: list[str], lock: dict[str, Requirement]) -> list[str]:
    requirements = [Requirement(text) for text in wanted]
    return [
        str(requirement)
        for requirement in requirements
        if (pin := lock.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(pinned_version(pin), prereleases=True)
    ]


def test_lock_meets_every_dependency_of_the_project():
    assert unmet(PROJECT["dependencies"] + EXTRAS["dev"], LOCK) == []


def test_lock_meets_the_libvirt_extra():
    assert unmet(EXTRAS["libvirt"], LOCK_LIBVIRT) == []


@pytest.mark.parametrize("wanted", ["msgspec>=99", "nobody-locked-this"])
def test_dependency_the_lock_does_not_meet_is_found(wanted):
    assert unmet([wanted], LOCK) == [wanted]


def test_environment_has_exactly_the_locked_versions():
    different = {}
    for name, pin in LOCK.items():
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "nothing"
        if found != pinned_version(pin):
            different[name] = (found, pinned_version(pin))

    assert different == {}
