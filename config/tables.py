"""The shape of the operator's file, table by table: the fast path's types and the JSON Schema's source.

Every key is optional here unless the file makes no sense without it; what is UNSET gets its default
from `config.model` when the infrastructure is put together.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from config.model import Strategy
from config.names import NAME_PATTERN
from config.quantities import Amount, Duration

__all__ = [
    "BackoffTable",
    "Document",
    "InfrastructureTable",
    "PodTable",
    "RegionTable",
    "ResourceTable",
    "ZoneTable",
]

_StrategyKey = Annotated[
    Strategy, Meta(description="Which siblings are restarted with a failed child.")
]
_Intensity = Annotated[
    int, Meta(ge=0, le=1_000_000, description="Restarts within `period` before it escalates.")
]
_Period = Annotated[Duration, Meta(description='Window of `intensity`, e.g. "60s".')]
_Driver = Annotated[
    str, Meta(min_length=1, description="Name of an installed driver: simulated, libvirt, …")
]
_Connect = Annotated[
    str,
    Meta(description="Where the devices are, in the driver's words; ${NAME:-default} is replaced."),
]
_Config = Annotated[
    dict[str, object],
    Meta(
        description="The driver's own settings.", extra_json_schema={"additionalProperties": True}
    ),
]
_Amounts = dict[str, Amount]


class BackoffTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart waits: `initial`, doubling up to `max`, with jitter."""

    initial: Annotated[Duration, Meta(description="First wait.")] | UnsetType = UNSET
    max: Annotated[Duration, Meta(description="Longest wait.")] | UnsetType = UNSET


class ResourceTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A resource, a range of them (`host-{01..40}`), or a template (`vm-*`) for those made on demand."""

    kind: Annotated[
        str, Meta(pattern=NAME_PATTERN, description="What it is: vm, host, volume, switch, …")
    ] = field(name="class")
    driver: _Driver | UnsetType = UNSET
    connect: _Connect | UnsetType = UNSET
    config: _Config | UnsetType = UNSET
    capacity: Annotated[_Amounts, Meta(description="What it offers.")] | UnsetType = UNSET
    claims: Annotated[_Amounts, Meta(description="What it takes.")] | UnsetType = UNSET


class PodTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pod (a rack): supervises its resources in one process; `driver`, `connect`, `config` are their defaults."""

    strategy: _StrategyKey | UnsetType = UNSET
    intensity: _Intensity | UnsetType = UNSET
    period: _Period | UnsetType = UNSET
    backoff: BackoffTable | UnsetType = UNSET
    mailbox: (
        Annotated[int, Meta(ge=1, le=10_000, description="Units one resource holds at a time.")]
        | UnsetType
    ) = UNSET
    sync_rate: (
        Annotated[
            float, Meta(gt=0, le=1e6, description="Synchronisations a second after a mass restart.")
        ]
        | UnsetType
    ) = UNSET
    quarantine_after: (
        Annotated[
            int, Meta(ge=1, le=1000, description="Crashes by one unit before it is set aside.")
        ]
        | UnsetType
    ) = UNSET
    driver: _Driver | UnsetType = UNSET
    connect: _Connect | UnsetType = UNSET
    config: _Config | UnsetType = UNSET
    resource: dict[str, ResourceTable] = {}


class ZoneTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A zone (independent power and uplink): supervises its pods."""

    strategy: _StrategyKey | UnsetType = UNSET
    intensity: _Intensity | UnsetType = UNSET
    period: _Period | UnsetType = UNSET
    backoff: BackoffTable | UnsetType = UNSET
    pod: dict[str, PodTable] = {}


class RegionTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of zones."""

    zone: dict[str, ZoneTable] = {}


class InfrastructureTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN, description="What the whole is called.")]


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cloudctl file: what exists, where, and how it is supervised."""

    include: Annotated[
        list[str], Meta(description='More files, relative to this one: ["pods/*.toml"].')
    ] = []
    infrastructure: InfrastructureTable | UnsetType = UNSET
    region: dict[str, RegionTable] = {}
