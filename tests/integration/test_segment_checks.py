"""What the doctor says about segments: nothing while all is well, and each fault by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import segments
from orchestrator.domain.etag import Expected
from orchestrator.storage import clock, doctor
from orchestrator.storage.doctor import Count
from orchestrator.storage.doctor_check import Check
from orchestrator.storage.segment_checks import CHECKS
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}

#: What each check must find: a statement that spoils the sound world.
FAULTS = {
    "segment_sizes": "UPDATE subject_segments SET segment_nos = '{}'",
    "segments_overdue": "UPDATE subject_segments SET next_due = now() - interval '2 minutes'",
    "segment_runs_open": """
        INSERT INTO segment_runs (project_no, kind, status, requested_at)
        SELECT project_no, 'build', 'queued', now() - interval '31 minutes' FROM projects LIMIT 1""",
    "segments_building": """
        UPDATE segments SET rules_revision = rules_revision + 1, updated_at = now() - interval '31 minutes'
         WHERE segment_id = 'pros'""",
    "segments_broken": "DELETE FROM segments WHERE segment_id = 'pros'",
}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    """Two are kept in segments, one of which asks about another and about a list."""
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.segment("listed", None)
    await crowd.segment("pros", PRO)
    clauses = [{"kind": "in_cohort", "cohortId": "pros"}, {"kind": "in_cohort", "cohortId": "listed"}]
    await crowd.segment("both", {"kind": "not", "clause": {"kind": "and", "clauses": clauses}})
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.world.do(segments.add_members, "listed", ["ann"])
    await crowd.settle()
    await crowd.run("build")
    return crowd


def test_each_check_has_its_fault() -> None:
    assert [check.name for check in CHECKS] == list(FAULTS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_each_check_is_silent_in_a_sound_world_and_finds_its_fault(check: Check, crowd: Crowd) -> None:
    async def look() -> Count:
        async with crowd.transactions.read(None) as conn:
            return await doctor.check(conn, check, await clock.now(conn))

    before = await look()
    await crowd.owner.execute(FAULTS[check.name])
    after = await look()

    assert before == doctor.NONE
    assert after.total >= 1
    assert after.examples
    assert all(after.examples)


async def test_a_broken_segment_is_named_with_what_it_misses(crowd: Crowd) -> None:
    await crowd.world.do(segments.delete, "listed", Expected(), force=True)
    (check,) = (check for check in CHECKS if check.name == "segments_broken")

    async with crowd.transactions.read(None) as conn:
        found = await doctor.check(conn, check, await clock.now(conn))

    assert found == Count(total=1, examples=("segment both: there is no segment listed",))
