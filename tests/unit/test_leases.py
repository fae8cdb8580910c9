"""What somebody has claimed who then died is taken up by another one soon enough for all to be done within a minute."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.application import derived_events, journey_schedules, relay
from orchestrator.storage import erasures, outbox, policy_versions, segment_runs
from orchestrator.temporal.client import CALL_TIMEOUT

LEASES = {
    "the first telling of what the outbox has": outbox.FIRST_LEASE,
    "a sweep of the outbox": relay.LEASE,
    "counting events of a kind": derived_events.LEASE,
    "telling of a schedule": journey_schedules.LEASE,
    "telling of an erasure": erasures.TELL_AGAIN,
    "telling of policies": policy_versions.TELL_AGAIN,
    "telling of a run over segments": segment_runs.TELL_AGAIN,
}


@pytest.mark.parametrize("lease", LEASES.values(), ids=LEASES)
def test_what_was_claimed_is_taken_up_again_within_half_a_minute(lease: timedelta) -> None:
    assert lease <= timedelta(seconds=30)


def test_a_schedule_is_told_of_within_its_lease() -> None:
    # Made, or else looked at and changed.
    assert 3 * CALL_TIMEOUT < journey_schedules.LEASE
