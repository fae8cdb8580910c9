"""Working through the inbox at somebody's word: bounded, beside the consumers, and of one project."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from orchestrator.application import publishing, trigger_contracts
from orchestrator.application.dispatching import AT_ONCE, Dispatched, Dispatching
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.dispatch import MAX_NAMED, MAX_SUBJECTS
from orchestrator.domain.event import Event
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import inbox_entries
from orchestrator.storage.outbox import Notice
from orchestrator.storage.running_call import running_call
from tests.integration.journey_world import ANY_STATE, World

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

BYE = {"id": "bye", "exit": {"reason": "finished"}}
WAITS = {"id": "waits", "waitFor": {"event": {"eventName": "reply"}}, "next": "bye"}


class Desk:
    """A project whose inbox nobody consumes, unless a test does, and what Temporal would be told."""

    def __init__(self, world: World, pool: Pool[Record]) -> None:
        self.world = world
        self.owner = world.owner
        self.project_no = world.scope.project_no
        self.told: list[Notice] = []
        self.transactions = Transactions(pool)
        self.dispatching = Dispatching(self.transactions, Versions(), self._tell)
        self.ingest = Ingest(world.transactions)

    async def _tell(self, told: Sequence[Notice]) -> None:
        self.told += told

    async def open(self, *steps: object) -> None:
        """A journey that starts on each purchase."""
        contract = Contract(name="Bought", event_name="purchase", predicate=None, entry_key_path=None)
        await self.world.do(trigger_contracts.create, "bought", contract)
        await self.world.draft("welcome", {"triggerContractId": "bought", "steps": [*steps, BYE]})
        await self.world.do(publishing.publish, "welcome", ANY_STATE)

    async def happen(self, *events: tuple[str, str], name: str = "purchase") -> None:
        """(event id, subject id) of each, in a batch of their own."""
        for event_id, subject_id in events:
            event = Event(event_id=event_id, name=name, subject_id=subject_id, occurred_at=None, properties=b"{}")
            await self.ingest.take(self.project_no, [event], backfill=False)

    async def put(self, *subject_ids: str) -> None:
        keys = [await self.world.subject(subject_id) for subject_id in subject_ids]
        async with self.world.transactions.write(self.project_no) as conn:
            await inbox_entries.add(conn, keys, "attributes", await conn.fetchval("SELECT now()"))

    async def dispatch(self, *subject_ids: str, **limits: object) -> Dispatched:
        done = await self.dispatching.dispatch(self.project_no, subject_ids, **limits)  # type: ignore[arg-type]
        await self.dispatching.close()
        return done

    async def waiting(self) -> set[str]:
        rows = await self.owner.fetch(
            "SELECT DISTINCT subject_id FROM inbox JOIN subjects USING (project_no, bucket, subject_no)"
        )
        return {row["subject_id"] for row in rows}


@pytest.fixture
async def desk(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Desk:
    return Desk(await World.make(owner, api_pool), worker_pool)


async def test_named_subjects_are_worked_on_and_nobody_else(desk: Desk) -> None:
    await desk.open(WAITS)
    await desk.happen(("e-1", "ann"), ("e-2", "ann"), ("e-3", "bob"))

    done = await desk.dispatch("ann", "ann", "nobody")

    assert done == Dispatched(subjects=1, entries=2, started=2, poked=0, failed=0, more=False)
    assert await desk.waiting() == {"bob"}
    assert [one.workflow_id for one in desk.told] == ["disp:welcome__v1__ann__e-1", "disp:welcome__v1__ann__e-2"]


async def test_twice_is_harmless_and_what_wakes_is_told_apart_from_what_starts(desk: Desk) -> None:
    await desk.open(WAITS)
    await desk.happen(("e-1", "ann"), ("e-2", "bob"))
    first = await desk.dispatch()
    again = await desk.dispatch()
    await desk.happen(("e-3", "ann"), name="reply")
    woken = await desk.dispatch()

    assert (first.subjects, first.started, first.more) == (2, 2, False)
    assert again == Dispatched(subjects=0, entries=0, started=0, poked=0, failed=0, more=False)
    assert (woken.entries, woken.started, woken.poked) == (1, 0, 1)


async def test_a_limit_leaves_the_rest_and_says_that_there_is_more(desk: Desk) -> None:
    await desk.put(*(f"s{number}" for number in range(5)))

    first = await desk.dispatch(max_subjects=3)
    left = await desk.waiting()
    second = await desk.dispatch(max_subjects=3)

    assert (first.subjects, first.more, len(left)) == (3, True, 2)
    assert (second.subjects, second.more) == (2, False)


async def test_no_more_is_begun_when_the_time_is_over(desk: Desk) -> None:
    await desk.put(*(f"s{number}" for number in range(300)))

    done = await desk.dispatch(time_limit=timedelta(milliseconds=1))

    # Whatever was begun is whole, and the rest is there for the next call.
    assert len(await desk.waiting()) == 300 - done.subjects
    assert done.more == (done.subjects < 300)


@pytest.mark.parametrize(
    ("limits", "path"),
    [
        ({"max_subjects": 0}, "maxSubjects"),
        ({"max_subjects": MAX_SUBJECTS + 1}, "maxSubjects"),
        ({"time_limit": timedelta(0)}, "timeLimit"),
        ({"time_limit": timedelta(seconds=-1)}, "timeLimit"),
        ({"time_limit": timedelta(seconds=8, microseconds=1)}, "timeLimit"),
    ],
)
async def test_limits_have_limits(desk: Desk, limits: dict[str, object], path: str) -> None:
    await desk.put("ann")

    with pytest.raises(InvalidArgument) as refusal:
        await desk.dispatch(*(f"s{number}" for number in range(MAX_NAMED + 1)), **limits)

    assert [fault.path for fault in refusal.value.faults] == ["subjectIds", path]
    assert await desk.waiting() == {"ann"}


async def test_other_projects_keep_theirs(
    desk: Desk, owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]
) -> None:
    elsewhere = Desk(await World.make(owner, api_pool, "elsewhere"), worker_pool)
    await desk.put("ann")
    await elsewhere.put("ann", "bob")

    done = await desk.dispatch()
    of_one_unknown_here = await desk.dispatch("bob")

    assert (done.subjects, of_one_unknown_here.subjects) == (1, 0)
    assert await owner.fetchval("SELECT count(*) FROM inbox WHERE project_no = $1", elsewhere.project_no) == 2


async def test_who_cannot_be_worked_on_is_counted_and_the_others_are_worked_on(desk: Desk) -> None:
    await desk.put(*(f"s{number}" for number in range(80)), "bad")
    await desk.owner.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF (SELECT subject_id FROM subjects AS s WHERE s.subject_no = OLD.subject_no) = 'bad' THEN
                RAISE EXCEPTION 'on purpose' USING ERRCODE = '22012';
            END IF;
            RETURN OLD;
        END $$;
        CREATE TRIGGER fail BEFORE DELETE ON inbox FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )

    done = await desk.dispatch()
    again = await desk.dispatch()

    assert (done.subjects, done.failed, done.more) == (80, 1, False)
    # It has its turn among those that failed, and is not tried to death here.
    assert (again.subjects, again.failed) == (0, 0)
    assert await desk.owner.fetchval("SELECT array_agg(attempts) FROM inbox") == [1]


async def test_a_call_whose_time_is_over_has_failed_by_itself_and_not_by_what_it_was_at(desk: Desk) -> None:
    await desk.put("ann")
    await desk.owner.execute(
        """
        CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(30);
            RETURN OLD;
        END $$;
        CREATE TRIGGER slow_down BEFORE DELETE ON inbox FOR EACH ROW EXECUTE FUNCTION slow_down();
        """
    )

    with (
        running_call(ends_at=asyncio.get_running_loop().time() + 2),
        pytest.raises(asyncpg.QueryCanceledError),
    ):
        await desk.dispatch()

    assert await desk.owner.fetchval("SELECT array_agg(attempts) FROM inbox") == [0]


async def test_who_is_held_by_somebody_else_is_left_to_them_and_told_of(desk: Desk, database: str) -> None:
    await desk.put("ann", "bob")
    other = await asyncpg.connect(database)
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM subjects WHERE subject_id = 'bob' FOR NO KEY UPDATE")
        while_held = await desk.dispatch(time_limit=timedelta(milliseconds=300))
        waits = asyncio.create_task(desk.dispatch())
        await other.execute("COMMIT")
        afterwards = await waits
    finally:
        await other.close()

    assert (while_held.subjects, while_held.more) == (1, True)
    assert (afterwards.subjects, afterwards.more) == (1, False)


async def test_beside_consumers_nothing_is_done_twice_and_each_subject_keeps_its_order(
    desk: Desk, worker_pool: Pool[Record]
) -> None:
    await desk.open()
    people, each = 60, 5
    for number in range(each):
        batch = [
            Event(
                event_id=f"e-{who}-{number}",
                name="purchase",
                subject_id=f"p-{who}",
                occurred_at=None,
                properties=json.dumps({"number": number}).encode(),
            )
            for who in range(people)
        ]
        await desk.ingest.take(desk.project_no, batch, backfill=False)
    consumers = [Inbox(Transactions(worker_pool), Versions()) for _ in range(2)]
    by_consumers: list[Notice] = []

    async def consume(inbox: Inbox) -> None:
        while keys := await inbox.waiting():
            worked = await inbox.work(keys[:7])
            by_consumers.extend(worked.told)

    consuming = [asyncio.create_task(consume(inbox)) for inbox in consumers]
    done = await asyncio.gather(*(desk.dispatching.dispatch(desk.project_no, [], max_subjects=10) for _ in range(8)))
    await asyncio.gather(*consuming)
    await desk.dispatching.close()

    rows = await desk.owner.fetch(
        "SELECT subject_id, array_agg(entry_key ORDER BY enrollment_id) AS keys FROM enrollments"
        " JOIN subjects USING (project_no, bucket, subject_no) GROUP BY subject_id"
    )
    assert {row["subject_id"]: row["keys"] for row in rows} == {
        f"p-{who}": [f"e-{who}-{number}" for number in range(each)] for who in range(people)
    }
    ids = [one.workflow_id for one in (*desk.told, *by_consumers)]
    assert len(ids) == len(set(ids)) == people * each
    assert sum(one.started for one in done) == len(desk.told)
    assert await desk.waiting() == set()


async def test_whose_turn_does_not_come_in_time_is_told_that_there_is_more(desk: Desk, database: str) -> None:
    await desk.put("ann", "bob")
    other = await asyncpg.connect(database)
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT FROM subjects FOR NO KEY UPDATE")
        busy = [asyncio.create_task(desk.dispatch("ann", time_limit=timedelta(seconds=8))) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)  # they have begun
        late = await desk.dispatch("bob", time_limit=timedelta(milliseconds=200))
        await other.execute("COMMIT")
        done = await asyncio.gather(*busy)
    finally:
        await other.close()

    assert (late.subjects, late.more) == (0, True)
    assert sum(one.subjects for one in done) == 1


async def test_whoever_breaks_it_off_has_lost_nothing(desk: Desk) -> None:
    await desk.open()
    await desk.happen(*((f"e-{number}", f"p-{number}") for number in range(100)))

    for _ in range(10):
        task = asyncio.create_task(desk.dispatch(max_subjects=30))
        await asyncio.sleep(0.005)  # somewhere in it
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    while (await desk.dispatch()).more:
        pass

    assert await desk.owner.fetchval("SELECT count(*) FROM enrollments") == 100
    assert await desk.owner.fetchval("SELECT count(*) FROM outbox") == 100
