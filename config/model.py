"""What an operator's file says once it is checked, ranges expanded and defaults filled in.

`config.load` makes it from TOML, the API takes it as JSON, `config.plan` compares two of them. Paths are
`region/zone/pod/name`. A resource template (`vm-*`) stands for resources that are made on demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct, field

__all__ = [
    "Backoff",
    "Infrastructure",
    "Pod",
    "Region",
    "Resource",
    "Strategy",
    "Supervision",
    "Template",
    "Zone",
]


class Strategy(Enum):
    """Which siblings are restarted with a failed child."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Backoff(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart waits: `initial_s`, doubling up to `max_s`, with jitter."""

    initial_s: float = 0.2
    max_s: float = 30.0


class Supervision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A partition's supervisor flags; more than `intensity` restarts in `period_s` escalate."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    period_s: float = 60.0
    backoff: Backoff = Backoff()


class Resource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One declared resource; capacity and claims are in base units (bytes, counts)."""

    name: str
    kind: str  # the operator's `class`: vm, host, volume, …
    driver: str
    connect: str = ""  # "" means the driver's own default
    config: dict[str, object] = field(default_factory=dict)
    capacity: dict[str, float] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)


class Template(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resources made on demand: `pattern` is a name with one `*`; the rest as in `Resource`."""

    pattern: str
    kind: str
    driver: str
    connect: str = ""
    config: dict[str, object] = field(default_factory=dict)
    capacity: dict[str, float] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)


class Pod(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pod: its supervisor flags are those over its resources."""

    name: str
    supervision: Supervision = Supervision(intensity=100, period_s=10.0)
    mailbox: int = 16
    sync_rate: float = 10_000.0
    quarantine_after: int = 3
    resources: tuple[Resource, ...] = ()
    templates: tuple[Template, ...] = ()


class Zone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One zone: its supervisor flags are those over its pods."""

    name: str
    supervision: Supervision = Supervision()
    pods: tuple[Pod, ...] = ()


class Region(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of zones."""

    name: str
    zones: tuple[Zone, ...] = ()


class Infrastructure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of what one `apply` declares."""

    name: str
    regions: tuple[Region, ...] = ()

    def pods(self) -> Iterator[tuple[str, Pod]]:
        """Every pod with its path, in the order of the file."""
        for region in self.regions:
            for zone in region.zones:
                for pod in zone.pods:
                    yield f"{region.name}/{zone.name}/{pod.name}", pod
