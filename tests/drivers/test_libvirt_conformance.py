"""The libvirt driver against a real libvirtd with its test driver, started privately."""

from __future__ import annotations

import os
import signal

import pytest

pytest.importorskip("libvirt", reason="libvirt-python is not installed")

import libvirt

from drivers import libvirtd_private
from drivers.contract import DeviceRef, Step
from drivers.libvirt_domain import LibvirtDriver
from drivers.testing import DriverConformance


class LibvirtPeer:
    def __init__(self, folder):
        self._folder = folder
        self._libvirtd = libvirtd_private.start(folder)
        self.connect = self._libvirtd.uri

    def hang(self):
        os.kill(self._libvirtd.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self._libvirtd.pid, signal.SIGCONT)

    def kill(self):
        os.kill(self._libvirtd.pid, signal.SIGKILL)
        self._libvirtd.stop()

    def restart(self):
        self._libvirtd = libvirtd_private.start(self._folder)

    def stop(self):
        self._libvirtd.stop()

    async def tamper(self, ref: DeviceRef):
        connection = libvirt.open(self.connect)
        connection.lookupByName(ref.path.replace("/", ".")).undefine()
        connection.close()


@pytest.fixture
def peer(tmp_path):
    try:
        libvirtd = LibvirtPeer(tmp_path)
    except libvirtd_private.LibvirtdError as error:
        pytest.skip(str(error))
    yield libvirtd
    libvirtd.stop()


class TestLibvirtDriver(DriverConformance):
    driver = LibvirtDriver
    ref = DeviceRef("eu/a/rack-1/vm-1", "vm-1", "vm")
    prepare = (Step("create", {"memory": "64MiB", "vcpus": 2}),)
    change = Step("start")
    bad = Step("set", {"memory": "a lot"})
    nowhere = "test+unix:///default?socket=/nonexistent/libvirt-sock"
