"""Enrollment by id: what it leaves beside the executions, and subjects that are deleted meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import pytest

from orchestrator.application import audiences, publishing, segments
from orchestrator.application.enrollment import Enrolled, enroll
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.poison import mend, poison
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

BYE = {"id": "bye", "exit": {"reason": "finished"}}

T = TypeVar("T")


class Reception:
    """A journey that takes whoever is enrolled."""

    def __init__(self, world: World, pool: Pool[Record], dsn: str) -> None:
        self.world = world
        self.owner = world.owner
        self.dsn = dsn
        self.transactions = Transactions(pool)

    async def open(self, **definition: object) -> None:
        await self.world.draft("welcome", {"steps": [BYE], **definition})
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def enroll(self, *subject_ids: str) -> Enrolled:
        async with self.transactions.write(self.world.scope.project_no) as conn:
            return await enroll(conn, self.world.scope, Versions(), "welcome", subject_ids)

    async def told(self) -> Sequence[tuple[str, str]]:
        """What consumers of the inbox will hear, of whom."""
        rows = await self.owner.fetch(
            "SELECT subject_id, kind FROM inbox JOIN subjects USING (project_no, bucket, subject_no)"
            " ORDER BY subject_id"
        )
        return [(row["subject_id"], row["kind"]) for row in rows]

    async def inside(self) -> list[str]:
        """Who has an execution."""
        rows = await self.owner.fetch(
            "SELECT subject_id FROM executions JOIN subjects USING (project_no, bucket, subject_no)"
        )
        return sorted(row["subject_id"] for row in rows)

    async def while_being_deleted(self, subject_id: str, work: Awaitable[T]) -> T:
        """Do this while somebody deletes that subject, whom it sees and then finds gone."""
        other = await asyncpg.connect(self.dsn)
        try:
            await other.execute("BEGIN")
            await other.execute("DELETE FROM subjects WHERE subject_id = $1", subject_id)
            working = asyncio.ensure_future(work)
            await waits_for_a_lock(working, self.owner)
            await other.execute("COMMIT")
            return await working
        finally:
            await other.close()


@pytest.fixture
async def reception(owner: Connection[Record], api_pool: Pool[Record], database: str) -> Reception:
    world = await World.make(owner, api_pool)
    await world.furnish()
    return Reception(world, api_pool, database)


async def test_consumers_hear_of_subjects_that_enrollment_has_created(reception: Reception) -> None:
    await reception.open()
    await reception.world.subject("ann")

    await reception.enroll("ann", "bob", "cleo")

    assert await reception.told() == [("bob", "attributes"), ("cleo", "attributes")]


async def test_who_is_deleted_while_being_enrolled_comes_in_as_somebody_new(reception: Reception) -> None:
    await reception.open()
    ann = await reception.world.subject("ann")

    enrolled = await reception.while_being_deleted("ann", reception.enroll("ann", "bob"))

    assert (enrolled.enrolled, enrolled.failed) == (2, [])
    assert ann not in {entry.key for entry in enrolled.told}
    assert await reception.told() == [("ann", "attributes"), ("bob", "attributes")]


async def test_who_is_deleted_while_being_put_into_a_list_is_in_it_as_somebody_new(reception: Reception) -> None:
    await reception.world.subject("ann")

    added = await reception.while_being_deleted("ann", reception.world.do(segments.add_members, "vip", ["ann", "bob"]))

    assert (added.changed, added.unchanged) == (2, 0)
    assert await reception.told() == [("ann", "membership"), ("bob", "membership")]


async def test_an_audience_that_is_gone_is_in_the_audit_log_once_however_many_are_refused(
    reception: Reception,
) -> None:
    everyone = Audience(name="All", description="", subject_type=END_USER, predicate={"kind": "everyone"})
    await reception.world.do(audiences.create, "all", everyone)
    await reception.open(audienceId="all")
    await reception.world.do(audiences.delete, "all", ANY_STATE)

    first = await reception.enroll("ann", "bob")
    second = await reception.enroll("cleo")

    assert (first.refused, second.refused) == ({"audience_not_found": 2}, {"audience_not_found": 1})
    assert (await reception.world.actions()).count("entry_refused_audience_not_found") == 1


@pytest.mark.parametrize("bad", [["s3"], ["s0", "s1"], ["s0", "s7", "s11", "s19"], [f"s{n}" for n in range(10)]])
async def test_who_cannot_be_worked_on_is_told_and_keeps_nobody_else_out(
    reception: Reception, bad: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    everybody = [f"s{n}" for n in range(20)]
    await reception.open()
    await poison(reception.owner, *bad)

    enrolled = await reception.enroll(*everybody, "s3")

    assert (enrolled.enrolled, enrolled.skipped, enrolled.total) == (20 - len(bad), 1, 21)
    assert enrolled.failed == bad
    assert await reception.inside() == sorted(set(everybody) - set(bad))
    assert len(enrolled.told) == 20 - len(bad)
    assert [record.message for record in caplog.records if record.exc_info] == ["a subject cannot be enrolled"] * len(
        bad
    )

    await mend(reception.owner, *bad)
    again = await reception.enroll(*enrolled.failed)

    assert (again.enrolled, again.failed) == (len(bad), [])
    assert await reception.inside() == sorted(everybody)


@pytest.mark.parametrize("bad", [1, 2, 12, 20])
async def test_where_nobody_or_hardly_anybody_can_be_worked_on_the_call_fails_and_nobody_is_in(
    reception: Reception, bad: int
) -> None:
    everybody = [f"s{n}" for n in range(20 if bad == 12 else bad)]
    await reception.open()
    await poison(reception.owner, *everybody[:bad])

    with pytest.raises(asyncpg.RaiseError):
        await reception.enroll(*everybody)

    assert await reception.inside() == []
    assert await reception.owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_the_gates_counts_are_exact_where_one_cannot_be_worked_on(reception: Reception) -> None:
    """Those of attempts that were undone are not among them."""
    await reception.open()
    await reception.enroll("ann", "bob")
    await poison(reception.owner, "cleo")

    second = await reception.enroll("ann", "cleo", "bob", "dora")

    assert (second.enrolled, second.skipped, second.failed) == (1, 2, ["cleo"])
    assert second.refused == {"re_entry": 2}
    counted = await reception.owner.fetchval("SELECT sum(total) FROM refusal_counts WHERE reason = 're_entry'")
    assert counted == 2
