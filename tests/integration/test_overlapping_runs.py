"""Two who do the same run, because one of them was given up too early: each part is done and counted once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asyncpg import LockNotAvailableError

from orchestrator.application import segments
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.segment_runs import SegmentRuns
from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import clock, memberships, segment_runs
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from tests.integration.crowd import Crowd
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
PEOPLE = 500


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.known(**{f"s{n}": {"tier": "pro"} for n in range(PEOPLE)})
    await crowd.settle()
    return crowd


async def test_a_run_done_by_two_is_counted_once(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None

    async def do() -> None:
        for part in begun.parts:
            await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)

    await asyncio.gather(do(), do(), do())
    finished = await crowd.runs.finish(crowd.project_no, begun.run_no)

    assert finished is not None
    assert (finished.subjects, finished.entered) == (PEOPLE, PEOPLE)
    assert await crowd.wrong() == []


async def test_who_comes_back_after_a_run_was_finished_leaves_nothing_behind(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    for part in begun.parts:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    await crowd.runs.finish(crowd.project_no, begun.run_no)

    await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, begun.parts[0], lambda bucket: None)

    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_run_chunks") == 0


async def test_who_finishes_a_run_again_is_told_what_came_of_it_and_drift_stands_once_in_the_audit_log(
    crowd: Crowd,
) -> None:
    await crowd.segment("pros", PRO)
    await crowd.run("build")
    await crowd.owner.execute(
        "UPDATE subject_segments SET segment_nos = array_remove(segment_nos, $1)", await crowd.number("pros")
    )
    begun = await crowd.runs.begin(crowd.project_no, "sweep", None)
    assert begun is not None
    for part in begun.parts:
        await crowd.runs.work(crowd.project_no, begun.run_no, "sweep", None, part, lambda bucket: None)

    first, again = [await crowd.runs.finish(crowd.project_no, begun.run_no) for _ in range(2)]

    assert first == again
    assert first is not None
    assert first.drift == PEOPLE
    assert await crowd.owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'segment_drift_found'") == 1
    assert await crowd.runs.finish(crowd.project_no, 0) is None


async def test_two_sweeps_at_once_share_one_run(crowd: Crowd) -> None:
    first = await crowd.runs.begin(crowd.project_no, "sweep", None)
    second = await crowd.runs.begin(crowd.project_no, "sweep", None)

    assert first == second
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_runs WHERE kind = 'sweep'") == 1


async def test_a_sweep_that_is_begun_behind_another_that_is_being_begun_leaves_none_that_waits(
    crowd: Crowd, worker_pool: Pool[Record]
) -> None:
    async with Transactions(worker_pool).write(crowd.project_no) as other:
        now = await clock.now(other)
        first = await segment_runs.request(other, crowd.project_no, "sweep", None, now)
        beginning = asyncio.ensure_future(crowd.runs.begin(crowd.project_no, "sweep", None))
        await waits_for_a_lock(beginning, crowd.owner)
        await segment_runs.begin(other, crowd.project_no, first, {}, now)
    second = await beginning

    assert second is not None
    assert second.run_no != first
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_runs WHERE status = 'queued'") == 0


async def test_the_figures_of_a_segment_are_those_of_a_run_that_asked_it_everywhere(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    first, *rest = begun.parts
    await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, first, lambda bucket: None)
    done = await crowd.owner.fetchval("SELECT count(*) FROM segment_transitions WHERE cause = 'definition'")
    assert 0 < done < PEOPLE

    await crowd.world.do(segments.evaluate, "pros")
    assert await crowd.run("evaluate", "pros") is not None
    assert (told := await _figures(crowd, "pros"))["last_entered"] == PEOPLE - done
    for part in rest:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    assert await crowd.runs.finish(crowd.project_no, begun.run_no) is not None

    assert await _figures(crowd, "pros") == told


async def test_the_figures_of_a_segment_are_those_of_the_run_that_looked_last(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    swept = await crowd.runs.begin(crowd.project_no, "sweep", None)
    assert swept is not None
    assert await crowd.run("build") is not None
    assert (told := await _figures(crowd, "pros"))["last_entered"] == PEOPLE

    for part in swept.parts:
        await crowd.runs.work(crowd.project_no, swept.run_no, "sweep", None, part, lambda bucket: None)
    await crowd.runs.finish(crowd.project_no, swept.run_no)

    assert await _figures(crowd, "pros") == told


async def test_buckets_that_take_too_long_together_are_tried_in_halves(
    crowd: Crowd, database: str, owner: Connection[Record]
) -> None:
    await crowd.segment("pros", PRO)
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    pool = await open_pool(
        database, role=WORKER_ROLE, size=2, application_name="hasty", statement_timeout=timedelta(milliseconds=500)
    )
    hasty = SegmentRuns(Transactions(pool), RuleBook())

    async def work() -> None:
        await hasty.work(crowd.project_no, begun.run_no, "build", None, begun.parts[0], lambda bucket: None)

    try:
        async with owner.transaction():
            stuck = SubjectKey(project_no=crowd.project_no, bucket=5, subject_no=0)
            await memberships.hold_off_passes(owner, stuck)
            with pytest.raises(LockNotAvailableError):
                await work()
        done = await owner.fetchval("SELECT max(last_bucket) FROM segment_run_chunks")
        assert done == 4
        await work()
    finally:
        await pool.close()

    assert await owner.fetchval("SELECT max(last_bucket) FROM segment_run_chunks") == begun.parts[0][1]


async def _figures(crowd: Crowd, segment_id: str) -> dict[str, Any]:
    row = await crowd.owner.fetchrow(
        "SELECT last_entered, last_departed, last_evaluated_at, built_revision FROM segments"
        " WHERE project_no = $1 AND segment_id = $2",
        crowd.project_no,
        segment_id,
    )
    assert row is not None
    return dict(row)
