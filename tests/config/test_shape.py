from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.findings import Findings, Source
from config.quantities import decode_quantity
from config.shape import mend
from config.tables import Document

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = ["include", "infrastructure", "name", "region", "eu", "zone", "pod", "resource", "class"]
WORDS += ["strategy", "period", "backoff", "initial", "mailbox", "driver", "config", "capacity"]
WORDS += ["clas", "zones", ""]

scalars = st.one_of(
    st.sampled_from(["one_for_one", "60s", "4GiB", "vm", "", "x y", 0, 1, -1, 10**6, 2.5, True]),
    st.floats(),
    st.dates(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=30,
)


def nested(value):
    """The value where the tables of a pod are expected, so that the search gets that far."""
    return {"region": {"eu": {"zone": {"a": {"pod": {"p": value}}}}}}


tables = st.dictionaries(st.sampled_from(WORDS), values, max_size=5)


def converts(data):
    try:
        msgspec.convert(data, Document, dec_hook=decode_quantity)
    except msgspec.ValidationError:
        return False
    return True


@UNHURRIED
@given(st.one_of(tables, values.map(nested), tables.map(nested)))
def test_mender_complains_exactly_where_conversion_fails(data):
    sound = converts(data)
    findings = Findings()
    source = Source("x", data=data)

    mend(source, findings)

    assert bool(findings) is not sound
    assert converts(source.data)
