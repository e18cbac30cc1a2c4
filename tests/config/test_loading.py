from __future__ import annotations

import subprocess
import sys
import time

import pytest

import config
from config import Backoff, Resource, Strategy, Supervision, Template

DESIGN = """
#:schema ./infra.schema.json
[infrastructure]
name = "acme"

[region.eu.zone.a]
strategy = "rest_for_one"
intensity = 7
period = "2m"

[region.eu.zone.a.pod.rack-1]
strategy = "one_for_all"
backoff = { initial = "100ms", max = "10s" }
mailbox = 4
sync_rate = 100
quarantine_after = 2
driver = "libvirt"
connect = "test:///default"
config = { pool = "fast", tier = 1 }

[region.eu.zone.a.pod.rack-1.resource."host-{08..11}"]
class = "host"
capacity = { cpus = 32, memory = "256GiB" }

[region.eu.zone.a.pod.rack-1.resource.volume]
class = "volume"
driver = "simulated"
connect = "here"
config = { tier = 2 }

[region.eu.zone.a.pod.rack-1.resource."vm-*"]
class = "vm"
claims = { cpus = 2, memory = "4GiB" }
"""


def only_pod(infrastructure):
    ((_, pod),) = infrastructure.pods()
    return pod


def test_file_of_the_design_loads_with_everything_it_says(bench):
    infrastructure = bench.loads(DESIGN)

    (region,) = infrastructure.regions
    (zone,) = region.zones
    (pod,) = zone.pods
    assert (infrastructure.name, region.name, zone.name, pod.name) == ("acme", "eu", "a", "rack-1")
    assert zone.supervision == Supervision(
        strategy=Strategy.REST_FOR_ONE, intensity=7, period_s=120.0
    )
    assert pod.supervision == Supervision(
        strategy=Strategy.ONE_FOR_ALL,
        intensity=100,
        period_s=10.0,
        backoff=Backoff(initial_s=0.1, max_s=10.0),
    )
    assert (pod.mailbox, pod.sync_rate, pod.quarantine_after) == (4, 100.0, 2)
    assert [r.name for r in pod.resources] == ["host-08", "host-09", "host-10", "host-11", "volume"]
    assert pod.resources[0] == Resource(
        name="host-08",
        kind="host",
        driver="libvirt",
        connect="test:///default",
        config={"pool": "fast", "tier": 1},
        capacity={"cpus": 32.0, "memory": 256 * 2.0**30},
    )
    assert pod.templates == (
        Template(
            pattern="vm-*",
            kind="vm",
            driver="libvirt",
            connect="test:///default",
            config={"pool": "fast", "tier": 1},
            claims={"cpus": 2.0, "memory": 4 * 2.0**30},
        ),
    )


def test_resource_overrides_what_its_pod_sets(bench):
    volume = only_pod(bench.loads(DESIGN)).resources[-1]

    assert (volume.driver, volume.connect) == ("simulated", "here")
    assert volume.config == {"pool": "fast", "tier": 2}


def test_defaults_stand_where_nothing_is_said(bench):
    infrastructure = bench.loads('[infrastructure]\nname = "x"\n[region.r.zone.z.pod.p]\n')

    zone = infrastructure.regions[0].zones[0]
    assert zone.supervision == Supervision()
    assert zone.pods[0] == config.Pod(name="p")


def test_ranges_multiply_over_zones_pods_and_resources(bench):
    infrastructure = bench.loads("""
[infrastructure]
name = "x"
[region.r.zone."z{1..2}".pod."rack-{08..10}"]
driver = "simulated"
[region.r.zone."z{1..2}".pod."rack-{08..10}".resource."s{1..2}-d{01..03}"]
class = "disk"
""")

    pods = dict(infrastructure.pods())
    assert list(pods) == [f"r/z{z}/rack-{p}" for z in (1, 2) for p in ("08", "09", "10")]
    names = [resource.name for resource in pods["r/z2/rack-10"].resources]
    assert names == ["s1-d01", "s1-d02", "s1-d03", "s2-d01", "s2-d02", "s2-d03"]


def test_result_survives_json_and_msgpack(bench):
    msgspec = pytest.importorskip("msgspec")
    infrastructure = bench.loads(DESIGN)

    for codec in (msgspec.json, msgspec.msgpack):
        encoded = codec.encode(infrastructure)
        assert codec.decode(encoded, type=config.Infrastructure) == infrastructure


def test_byte_order_mark_and_windows_line_ends_are_taken(bench):
    text = '\ufeff[infrastructure]\r\nname = "x"\r\nnam = 1\r\n'

    (problem,) = bench.problems(text)

    assert (problem.line, problem.column, problem.text) == (3, 1, "nam = 1")


def test_hundred_thousand_resources_of_a_range_load_in_seconds(bench):
    text = """
[infrastructure]
name = "big"
[region.r.zone.z.pod."p{01..10}"]
driver = "simulated"
[region.r.zone.z.pod."p{01..10}".resource."d-{00001..10000}"]
class = "disk"
capacity = { disk = "1TiB" }
"""
    started = time.perf_counter()

    infrastructure = bench.loads(text)

    assert time.perf_counter() - started < 3.0
    assert sum(len(pod.resources) for _, pod in infrastructure.pods()) == 100_000


def test_installed_drivers_are_known_without_importing_them():
    program = (
        "import sys, config\n"
        "config.loads(config.init_text().replace('simulated', 'libvirt'))\n"
        "heavy = {'rich', 'jsonschema', 'asyncio', 'thespian', 'drivers', 'libvirt'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "[]\n"
