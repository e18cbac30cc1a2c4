from __future__ import annotations

import importlib
import sys

import pytest

from drivers import loader
from drivers.loader import BrokenDriverError, UnknownDriverError, available, load
from drivers.simulated import SimulatedDriver

BODY = """
from drivers.simulated import SimulatedDriver
class Mine(SimulatedDriver):
    pass
"""


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Install a distribution with one module and one driver, as far as importlib can tell."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(name, body, target="Mine", distribution=None):
        module = f"offered_{distribution or name}"
        (tmp_path / f"{module}.py").write_text(body)
        info = tmp_path / f"{distribution or name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution or name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[{loader.ENTRY_POINT_GROUP}]\n{name} = {module}:{target}\n"
        )
        importlib.invalidate_caches()

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("offered_"):
            del sys.modules[module]


def test_own_driver_is_found_by_name():
    assert load("simulated") is SimulatedDriver


def test_third_party_driver_is_found_by_name(offer):
    offer("acme", BODY)

    assert issubclass(load("acme"), SimulatedDriver)
    assert available()["acme"].source == "acme 1.0 (offered_acme:Mine)"


def test_unknown_name_says_which_was_meant(offer):
    offer("acme", BODY)

    with pytest.raises(UnknownDriverError, match="did you mean 'acme'"):
        load("akme")


@pytest.mark.parametrize(
    ("body", "target", "reason"),
    [
        ("import no_such_module", "Mine", "No module named 'no_such_module'"),
        ("raise SystemExit(3)", "Mine", "SystemExit: 3"),
        ("Mine = 3", "Mine", "3 is not a subclass of drivers.contract.Driver"),
        (BODY, "Yours", "has no attribute 'Yours'"),
        (BODY.replace("pass", "info = None"), "Mine", "Mine.info is not a DriverInfo"),
        (
            "from msgspec.structs import replace\n"
            + BODY.replace("pass", "info = replace(SimulatedDriver.info, contract=99)"),
            "Mine",
            "written for contract 99; this is contract 1",
        ),
        (
            BODY.replace("(SimulatedDriver)", "(Driver)")
            .replace("pass", "info = SimulatedDriver.info")
            .replace("class", "from drivers.contract import Driver\nclass"),
            "Mine",
            "Mine does not define apply, close, observe, open, plan, probe, settle",
        ),
    ],
)
def test_broken_driver_is_named_and_disables_only_itself(offer, body, target, reason):
    offer("broken", body, target)

    with pytest.raises(BrokenDriverError, match="driver 'broken' from broken") as refusal:
        load("broken")

    assert reason in refusal.value.reason
    found = available()
    assert found["broken"].error == refusal.value.reason
    assert found["simulated"].error is None


def test_two_different_offers_of_one_name_are_both_named(offer):
    offer("twice", BODY, distribution="first")
    offer("twice", BODY, distribution="second")

    with pytest.raises(BrokenDriverError, match="more than one is installed") as refusal:
        load("twice")

    assert "first 1.0" in refusal.value.source
    assert "second 1.0" in refusal.value.source


def test_driver_whose_library_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    for module in [name for name in sys.modules if name.startswith("drivers.libvirt_")]:
        monkeypatch.delitem(sys.modules, module)

    with pytest.raises(BrokenDriverError, match=r"pip install 'cloudctl\[libvirt\]'"):
        load("libvirt")
