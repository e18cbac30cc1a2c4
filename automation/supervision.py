"""The operator's supervisor flags in OTP's words."""

from __future__ import annotations

from otp import Backoff, Strategy, SupervisorFlags
from rpc.messages import Supervision

__all__ = ["flags_of"]


def flags_of(supervision: Supervision) -> SupervisorFlags:
    """Put the operator's words into OTP's."""
    return SupervisorFlags(
        strategy=Strategy(supervision.strategy),
        intensity=supervision.intensity,
        period_s=supervision.period_s,
        backoff=Backoff(initial_s=supervision.backoff.initial_s, max_s=supervision.backoff.max_s),
    )
