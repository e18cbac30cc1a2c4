from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from tests.otp.beam.signals import compare, generate

SCRIPTS = int(os.environ.get("OTP_BEAM_SCENARIOS", "1000"))
SEED = int(os.environ.get("OTP_BEAM_SEED", "25"))


def test_links_monitors_exits_and_names_go_as_on_the_beam(tmp_path: Path):
    compared = compare(generate(SCRIPTS, SEED), tmp_path)

    assert compared.differing == []
    seen = [event for script in compared.seen for step in script for event in step]
    kinds = Counter(event[2][0] if event[0] == "got" else event[0] for event in seen)
    assert {"did", "dead", "exit", "down", "message"} == set(kinds)
    assert min(kinds.values()) > SCRIPTS / 10
