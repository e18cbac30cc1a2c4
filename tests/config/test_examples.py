from __future__ import annotations

from collections import Counter
from pathlib import Path

import jsonschema
import msgspec
import pytest
import tomli

import config

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMA = EXAMPLES / "infra.schema.json"


def drivers_of(name, **environment):
    infrastructure = config.load(EXAMPLES / name, environment=environment)
    return infrastructure, Counter(
        resource.driver for _, pod in infrastructure.pods() for resource in pod.resources
    )


def test_first_example_is_ten_lines_at_most():
    infrastructure, drivers = drivers_of("first.toml")

    assert drivers == {"simulated": 4}
    assert len(list(infrastructure.pods())) == 1
    assert len((EXAMPLES / "first.toml").read_text().splitlines()) <= 10


def test_two_zones_are_four_pods_of_domains_and_devices():
    infrastructure, drivers = drivers_of("two-zones.toml", CLOUDCTL_LIBVIRT="test+unix:///x")

    pods = dict(infrastructure.pods())
    assert list(pods) == ["eu/a/rack-1", "eu/a/rack-2", "eu/b/rack-1", "eu/b/rack-2"]
    assert drivers["libvirt"] == 20
    assert drivers["simulated"] >= 180
    machines = [r for p in pods.values() for r in p.resources if r.driver == "libvirt"]
    assert {(r.kind, r.connect) for r in machines} == {("vm", "test+unix:///x")}
    assert len({r.name for r in machines}) == 20
    assert [(t.pattern, t.driver) for t in pods["eu/a/rack-2"].templates] == [("vm-*", "simulated")]


def test_two_zones_stand_on_the_test_driver_without_a_daemon():
    infrastructure, _ = drivers_of("two-zones.toml")

    assert dict(infrastructure.pods())["eu/a/rack-1"].resources[0].connect == "test:///default"


def test_simulated_variant_has_the_same_resources_without_libvirt():
    real, _ = drivers_of("two-zones.toml")
    simulated, drivers = drivers_of("two-zones-simulated.toml")

    def named(infrastructure):
        return [(p, r.name, r.kind) for p, pod in infrastructure.pods() for r in pod.resources]

    assert sorted(named(simulated)) == sorted(named(real))
    assert set(drivers) == {"simulated"}


def test_starter_text_loads_and_names_its_schema():
    infrastructure = config.loads(config.init_text(), environment={})

    assert [path for path, _ in infrastructure.pods()] == ["eu/a/rack-1"]
    assert config.init_text().startswith("#:schema ./infra.schema.json\n")


def test_committed_schema_is_current():
    assert msgspec.json.decode(SCHEMA.read_bytes()) == config.schema()


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: path.name)
def test_schema_accepts_every_example(path):
    jsonschema.Draft202012Validator.check_schema(config.schema())

    jsonschema.validate(tomli.loads(path.read_text()), config.schema())


@pytest.mark.parametrize(
    "text",
    [
        "mistake = 1",
        "[region.eu.zone.a]\nperiod = '60'",
        "[region.eu.zone.a]\nintensity = -1",
        "[region.eu.zone.a]\nstrategy = 'x'",
        "[region.eu.zone.a.pod.p.resource.r]",
        "[region.eu.zone.a.pod.p.resource.r]\nclass = 'vm'\nclaims = { m = '4GIB' }",
    ],
)
def test_schema_refuses_what_the_loader_refuses(text):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomli.loads(text), config.schema())


def test_every_example_points_at_the_schema():
    for path in EXAMPLES.rglob("*.toml"):
        directive = path.read_text().splitlines()[0].removeprefix("#:schema ")
        assert (path.parent / directive).resolve() == SCHEMA
