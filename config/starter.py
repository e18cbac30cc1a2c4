"""The commented file that `cloudctl init` writes."""

from __future__ import annotations

__all__ = ["init_text"]

_TEXT = """\
#:schema ./infra.schema.json
# What exists, where, and how it is supervised.
#   cloudctl validate infra.toml     is it right?
#   cloudctl plan infra.toml         what would change?
#   cloudctl apply infra.toml        change it

# More files, relative to this one:
# include = ["pods/*.toml"]

[infrastructure]
name = "my-cloud"

# A zone has power and uplink of its own; regions group zones. A zone supervises its pods.
[region.eu.zone.a]
strategy = "one_for_one"   # or "one_for_all", "rest_for_one"
intensity = 5              # more than 5 restarts of pods ...
period = "60s"             # ... within 60 s bring the zone down

# A pod is a rack: one process that supervises its resources.
[region.eu.zone.a.pod.rack-1]
driver = "simulated"       # default of the resources below; "libvirt" for virtual machines
# connect = "${CLOUDCTL_LIBVIRT:-test:///default}"   # where the devices are, in the driver's words
backoff = { initial = "200ms", max = "30s" }
mailbox = 16               # units of work one resource holds at a time

# host-1 ... host-4 (write {01..40} for host-01 ... host-40)
[region.eu.zone.a.pod.rack-1.resource."host-{1..4}"]
class = "host"
capacity = { cpus = 32, memory = "256GiB" }

# Made on demand: work for rack-1/vm-anything creates it.
[region.eu.zone.a.pod.rack-1.resource."vm-*"]
class = "vm"
claims = { cpus = 2, memory = "4GiB" }
"""


def init_text() -> str:
    """Return a starter file: commented, valid, on simulated devices alone."""
    return _TEXT
