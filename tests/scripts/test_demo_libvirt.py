from __future__ import annotations

import libvirt
import pytest

from scripts.demo_libvirt import DomainWatch, start_libvirtd

NAME = "eu.a.rack-1.vm-01"
XML = f"<domain type='test'><name>{NAME}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
NAMESPACE = "urn:cloudctl:domain:1"


@pytest.fixture
def libvirtd(tmp_path):
    daemon = start_libvirtd(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def watch(libvirtd):
    watch = DomainWatch(libvirtd.uri)
    yield watch
    watch.close()


@pytest.fixture
def somebody_else(libvirtd):
    connection = libvirt.open(libvirtd.uri)
    yield connection
    connection.close()


def test_changes_by_somebody_else_are_seen_in_order(watch, somebody_else):
    domain = somebody_else.defineXML(XML)
    domain.create()
    domain.destroy()
    domain.undefine()
    watch.catch_up()

    assert watch.effects(NAME) == ["defined", "started", "stopped", "undefined"]
    assert not watch.exists(NAME)


def test_changed_definition_is_no_new_machine(watch, somebody_else):
    somebody_else.defineXML(XML)
    somebody_else.defineXML(somebody_else.lookupByName(NAME).XMLDesc().replace("1024", "2048"))
    watch.catch_up()

    assert watch.effects(NAME) == ["defined"]
    assert watch.exists(NAME)


def test_epoch_is_read_from_the_metadata_of_the_machine(watch, somebody_else):
    domain = somebody_else.defineXML(XML)
    domain.setMetadata(
        libvirt.VIR_DOMAIN_METADATA_ELEMENT,
        "<marks path='eu/a/rack-1/vm-01' epoch='1.12.3.4' begun=''/>",
        "cloudctl",
        NAMESPACE,
        libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )

    assert watch.epoch(NAME) == (1, 12, 3, 4)
    assert watch.epoch("nobody") is None
