from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from tests.otp.beam.scenarios import generate
from tests.otp.beam.supervision import compare

SCENARIOS = int(os.environ.get("OTP_BEAM_SCENARIOS", "600"))
SEED = int(os.environ.get("OTP_BEAM_SEED", "25"))


def test_supervision_goes_as_on_the_beam(tmp_path: Path):
    scenarios = generate(SCENARIOS, SEED)

    compared = compare(scenarios, tmp_path)

    assert compared.differing == []
    kinds = Counter(event[0] for seen in compared.seen for _, events in seen for event in events)
    assert {"start", "down", "terminate", "fail", "ignore", "info"} == set(kinds)
    assert kinds["start"] > 5 * SCENARIOS
    answers = repr([answer for seen in compared.seen for answer, _ in seen])
    for word in ("restarting", "already_present", "already_started", "start_error", "running"):
        assert f"'{word}'" in answers
