"""Who is poked by what happens, and who is left asleep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import preferences, projects, segments
from orchestrator.application.advance import Advance
from orchestrator.application.inbox import Inbox
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.segments import PARKED
from orchestrator.application.subjects import upsert
from orchestrator.application.transactions import Transactions
from orchestrator.domain.event import Event
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage import clock, doctor
from orchestrator.storage.doctor_checks import CHECKS
from tests.integration.journey_world import ANY_STATE, IN_VIP
from tests.integration.road import BYE, LATE, MONTH, Road, event, wait_for, when

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

    _Connection = Connection[Record]

DAY = timedelta(days=1)
PAID = event("paid")
PRO = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
LATELY = {"kind": "event_fired", "eventName": "visit", "window": {"type": "last_n_days", "days": 7}}
VIP = {"when": IN_VIP}


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


def cohort(segment_id: str) -> dict[str, Any]:
    return when(kind="in_cohort", cohortId=segment_id)


async def test_an_event_wakes_those_who_wait_for_it_and_nobody_else(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE, journey_id="paying")
    await road.publish(MONTH, BYE, journey_id="plain")
    await road.enroll("ann", "bob", journey_id="paying")
    await road.enroll("ann", "cleo", journey_id="plain")

    await road.crowd.happened(("ann", "paid", None), ("ann", "visit", None), ("cleo", "paid", None))

    assert await road.news() == ["ann"]
    assert await road.awaits("bob") == ["event:paid"]
    assert await road.awaits("cleo") is None


async def test_a_storm_of_other_events_wakes_nobody(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE)
    await road.enroll("ann")

    await road.crowd.happened(*(("ann", f"visit-{n}", None) for n in range(200)))
    await road.crowd.known(ann={"plan": "pro"})

    assert await road.news() == []


async def test_an_event_that_comes_twice_wakes_once(road: Road) -> None:
    await road.publish(wait_for(event("paid", where={**PRO, "fieldPath": "plan"})), LATE, BYE)
    await road.enroll("ann")
    once = Event(event_id="once", name="paid", subject_id="ann", occurred_at=None, properties=b"{}")
    await road.crowd.ingest.take(road.crowd.project_no, [once], backfill=False)
    first = await road.news()

    await road.crowd.ingest.take(road.crowd.project_no, [once], backfill=False)

    assert (first, await road.news()) == (["ann"], [])


async def test_several_events_at_once_wake_once(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE, exitRules=[{"id": "gone", **event("canceled")}])
    await road.enroll("ann")

    await road.crowd.happened(("ann", "paid", None), ("ann", "canceled", None), ("ann", "paid", None))

    assert await road.news() == ["ann"]
    assert (await road.ask()).outcome == "exited"


@pytest.mark.parametrize(
    "condition",
    [
        {"changed": {"fieldPath": "plan"}},
        {"when": PRO},
        when(kind="attribute", fieldPath="$subject.time_zone", operator="equals", value="Asia/Tokyo"),
    ],
    ids=["changed", "predicate", "time-zone"],
)
async def test_an_attribute_wakes_those_who_ask_about_any(road: Road, condition: dict[str, Any]) -> None:
    await road.publish(wait_for(condition), LATE, BYE)
    await road.enroll("ann")
    await road.news()

    await road.crowd.happened(("ann", "visit", None))
    by_event = await road.news()
    async with road.crowd.world.transactions.write(road.crowd.project_no) as conn:
        patch = SubjectPatch(subject_id="ann", attributes={"plan": "pro"}, time_zone="Asia/Tokyo")
        await upsert(conn, road.crowd.project_no, [patch])

    assert (by_event, await road.news()) == ([], ["ann"])
    assert (await road.ask()).outcome == "completed"


@pytest.mark.parametrize(
    "wait",
    [
        {"timeOfDay": {"time": "10:00"}},
        {"date": {"fieldPath": "birthday", "before": "7d"}},
    ],
    ids=["time-of-day", "date"],
)
async def test_a_time_zone_wakes_those_who_wait_for_a_time_in_it(road: Road, wait: dict[str, Any]) -> None:
    far = (datetime.now(UTC) + 30 * DAY).date()
    await road.crowd.known(ann={"birthday": far.isoformat()})
    await road.publish({"id": "then", "wait": wait, "next": "bye"}, BYE)
    await road.enroll("ann")
    await road.news()
    before = await road.owner.fetchval("SELECT wakes_at FROM executions")

    async with road.crowd.world.transactions.write(road.crowd.project_no) as conn:
        patch = SubjectPatch(subject_id="ann", attributes={}, time_zone="Asia/Tokyo")
        await upsert(conn, road.crowd.project_no, [patch])

    assert await road.news() == ["ann"]
    await road.ask()
    earlier = before - await road.owner.fetchval("SELECT wakes_at FROM executions")
    assert earlier in (timedelta(hours=9), timedelta(hours=-15))


async def test_the_projects_time_zone_wakes_those_who_may_wait_by_it(road: Road) -> None:
    await road.publish({"id": "ten", "wait": {"timeOfDay": {"time": "10:00"}}, "next": "bye"}, BYE, journey_id="ten")
    await road.publish(wait_for(PAID), LATE, BYE, journey_id="paying")
    await road.enroll("ann", journey_id="ten")
    await road.enroll("bob", journey_id="paying")
    await road.news()

    await road.crowd.world.do(projects.update, "default", {"name": "Renamed"}, ANY_STATE)
    renamed = await road.poked()
    await road.crowd.world.do(projects.update, "default", {"time_zone": "Asia/Tokyo"}, ANY_STATE)

    assert (renamed, await road.poked()) == ([], ["ann"])
    assert datetime.fromtimestamp((await road.ask()).until, UTC).hour == 1


async def test_a_date_that_changes_is_waited_for_anew(road: Road) -> None:
    far = (datetime.now(UTC) + 30 * DAY).replace(microsecond=0)
    await road.crowd.known(ann={"due": far.isoformat()})
    await road.publish({"id": "then", "wait": {"date": {"fieldPath": "due", "before": "1d"}}, "next": "bye"}, BYE)
    await road.enroll("ann")
    await road.news()

    await road.crowd.known(ann={"due": (far - 10 * DAY).isoformat()})
    moved = await road.news()
    effect = await road.ask()
    await road.crowd.known(ann={"due": None})

    assert (moved, await road.news()) == (["ann"], ["ann"])
    assert datetime.fromtimestamp(effect.until, UTC) == far - 11 * DAY
    assert (await road.ask()).outcome == "completed"
    assert await road.owner.fetchval("SELECT (result, reason)::text FROM visits WHERE step_id = 'then'") == (
        "(skipped,no_date)"
    )


async def test_being_put_on_a_list_wakes_those_who_wait_for_that_list(road: Road) -> None:
    await road.crowd.segment("others", None)
    await road.publish(wait_for(VIP), LATE, BYE)
    await road.enroll("ann", "bob")

    await road.crowd.world.do(segments.add_members, "others", ["ann"])
    by_other = await road.news()
    await road.crowd.world.do(segments.add_members, "vip", ["ann"])

    assert (by_other, await road.news()) == ([], ["ann"])
    assert (await road.ask()).outcome == "completed"


async def test_coming_into_a_segment_by_an_event_wakes(road: Road) -> None:
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.run("build")
    await road.publish(wait_for(cohort("visitors")), LATE, BYE)
    await road.enroll("ann")
    await road.news()

    await road.crowd.happened(("ann", "paid", None))
    by_other = await road.news()
    await road.crowd.happened(("ann", "visit", None))

    assert (by_other, await road.news()) == ([], ["ann"])
    assert (await road.ask()).outcome == "completed"


async def make_room_for_events(conn: Connection[Record], age: timedelta) -> None:
    """Of the month that so long ago is in, which may be the one before."""
    await conn.execute("SELECT ensure_events_month((now() - $1::interval)::date)", age)


async def test_leaving_a_segment_by_time_alone_wakes_too(road: Road) -> None:
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.run("build")
    await road.crowd.happened(("ann", "visit", datetime.now(UTC) - 6 * DAY))
    await road.publish(
        MONTH, BYE, exitRules=[{"id": "quiet", "when": {"kind": "not", "clause": cohort("visitors")["when"]}}]
    )
    await road.enroll("ann")
    await road.news()

    await make_room_for_events(road.owner, 8 * DAY)
    await road.owner.execute(
        "WITH earlier AS (SELECT interval '2 days' AS by)"
        " , e AS (UPDATE events SET occurred_at = occurred_at - by FROM earlier)"
        " UPDATE subject_event_state SET first_at = first_at - by, last_at = last_at - by FROM earlier"
    )
    await road.owner.execute("UPDATE subject_segments SET next_due = now()")

    assert await road.news() == ["ann"]
    assert (await road.ask()).outcome == "exited"


async def test_a_pass_wakes_those_whom_it_moves(road: Road) -> None:
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.run("build")
    await road.crowd.happened(*((f"s{n}", "visit", None) for n in range(5)))
    await road.crowd.settle()
    await road.publish(wait_for({"when": {"kind": "not", "clause": cohort("visitors")["when"]}}), LATE, BYE)
    await road.enroll("s0", "s1", "nobody")
    await road.crowd.settle()
    await road.forget_told()

    # Time has passed, and a sweep is faster than the inbox.
    await make_room_for_events(road.owner, 8 * DAY)
    await road.owner.execute("UPDATE events SET occurred_at = occurred_at - interval '8 days'")
    await road.owner.execute(
        "UPDATE subject_event_state SET first_at = first_at - interval '8 days', last_at = last_at - interval '8 days'"
    )
    await road.owner.execute(
        "UPDATE subject_event_days SET day = day - 8, first_at = first_at - interval '8 days',"
        " last_at = last_at - interval '8 days'"
    )
    await road.owner.execute("UPDATE subject_segments SET next_due = now()")
    await road.crowd.run("sweep")

    assert await road.poked() == ["s0", "s1"]
    assert await road.owner.fetchval("SELECT bool_and(leased_until <= now()) FROM outbox")


async def test_whom_a_pass_finds_first_is_told_of_again_by_the_inbox(road: Road) -> None:
    """Somebody may be about to wait while the pass looks for those who do."""
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.run("build")
    await road.publish(wait_for(cohort("visitors")), LATE, BYE)
    await road.enroll("ann")
    await road.news()

    await road.crowd.happened(("ann", "visit", None))
    await road.crowd.run("sweep")

    assert await road.poked() == ["ann"]
    assert await road.news() == ["ann"]


async def test_a_pass_wakes_by_the_past_nobody(road: Road) -> None:
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.run("build")
    await road.publish(wait_for(cohort("visitors")), LATE, BYE)
    await road.enroll("ann", "bob")
    await road.news()

    await road.crowd.happened(("ann", "visit", None), backfill=True)
    by_inbox = await road.news()
    await road.crowd.happened(("bob", "visit", None), backfill=True)
    await road.crowd.run("sweep")

    assert by_inbox == []
    assert await road.crowd.members("visitors") == {"ann", "bob"}
    assert await road.poked() == []
    assert (await road.ask("ann")).outcome == "completed"


async def test_new_rules_of_a_segment_wake_those_who_wait_for_it_or_for_one_that_asks_about_it(road: Road) -> None:
    await road.crowd.segment("visitors", LATELY)
    await road.crowd.segment("both", {"kind": "and", "clauses": [PRO, cohort("visitors")["when"]]})
    await road.crowd.segment("pros", PRO)
    for journey_id in ("visitors", "both", "pros"):
        await road.publish(wait_for(cohort(journey_id)), LATE, BYE, journey_id=journey_id)
        await road.enroll(journey_id, journey_id=journey_id)
    await road.news()

    await road.crowd.world.do(segments.update, "visitors", {"predicate": {**LATELY, "eventName": "seen"}}, ANY_STATE)

    assert await road.poked() == ["both", "visitors"]


async def test_an_exit_rule_about_a_segment_that_is_gone_parks_and_goes_on_when_there_is_one_again(road: Road) -> None:
    await road.publish(MONTH, BYE, exitRules=[{"id": "vip", **VIP}])
    await road.enroll("ann")
    await road.crowd.world.do(segments.delete, "vip", ANY_STATE, force=True)
    gone = await road.poked()
    parked = await road.ask()
    await road.forget_told()

    await road.crowd.segment("vip", None)
    again = await road.poked()
    asleep = await road.ask()
    await road.crowd.world.do(segments.add_members, "vip", ["ann"])

    assert (gone, again, await road.news()) == (["ann"], ["ann"], ["ann"])
    assert (parked.why, asleep.why, PARKED) == ("park", "wait", "segment_not_found")
    assert (await road.ask()).outcome == "exited"
    assert await road.ended() == ("exited", "vip")


async def test_preferences_and_the_past_wake_nobody(road: Road) -> None:
    await road.publish(wait_for({"when": {"kind": "any_event", "window": {"type": "ever"}}}), LATE, BYE)
    await road.enroll("ann")
    async with road.crowd.transactions.write(None) as conn:
        change = PreferenceChange(channel="log", category="marketing", opted_out=True)
        await preferences.update(conn, road.crowd.project_no, "ann", [change])
    await road.crowd.happened(("ann", "visit", None), backfill=True)

    silent = await road.news()
    await road.crowd.happened(("ann", "anything", None))

    assert (silent, await road.news()) == ([], ["ann"])


async def test_whoever_is_merged_looks_again(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE)
    await road.enroll("ann", "bob")
    await road.crowd.happened(("cleo", "paid", None))
    await road.crowd.settle()
    await road.forget_told()

    await road.crowd.world.do(merge, b"s" * 48, RuleBook(), "cleo", into="ann")  # what waits gets the event
    kept = await road.poked()
    await road.forget_told()
    await road.crowd.world.do(merge, b"s" * 48, RuleBook(), "bob", into="cleo")  # who waits gets to the event

    assert kept == ["ann"]
    assert await road.poked() == ["ann", "ann"], "the survivor's own, and the one that was moved, each once"


async def test_the_doctor_finds_those_who_would_not_be_woken(road: Road) -> None:
    """Of each kind one; and nobody who is well."""
    both = {"kind": "and", "clauses": [IN_VIP, {"kind": "not", "clause": PRO}]}
    waits = {
        "event": wait_for(PAID),
        "changed": wait_for({"changed": {"fieldPath": "plan"}}),
        "segment": wait_for({"when": both}),
        "time": {"id": "await", "wait": {"timeOfDay": {"time": "10:00"}}, "next": "bye"},
        "date": {"id": "await", "wait": {"date": {"fieldPath": "due"}}, "next": "pause"},
    }
    for journey_id, step in waits.items():
        await road.publish(step, MONTH, LATE, BYE, journey_id=journey_id)
        await road.enroll("ann", journey_id=journey_id)
    rules = [{"id": "gone", **event("canceled")}, {"id": "vip", "when": {"kind": "not", "clause": IN_VIP}}]
    await road.publish(MONTH, BYE, journey_id="rules", exitRules=rules[:1])
    await road.enroll("ann", journey_id="rules")
    await road.publish(wait_for({"when": {"kind": "everyone"}}), LATE, BYE, journey_id="rules-2", exitRules=rules)
    await road.enroll("ann", journey_id="rules-2")
    (check,) = (check for check in CHECKS if check.name == "executions_deaf")

    async def found() -> int:
        async with road.crowd.transactions.read(None) as conn:
            return (await doctor.check(conn, check, await clock.now(conn))).total

    well = await found()
    deaf = []
    for journey_id in ("event", "changed", "segment", "time", "rules"):
        await road.owner.execute("UPDATE executions SET awaits = '{something}' WHERE journey_id = $1", journey_id)
        deaf.append(await found())

    assert well == 0
    assert deaf == [1, 2, 3, 4, 5]


async def test_what_has_ended_awaits_nothing(road: Road) -> None:
    await road.publish(wait_for(PAID), LATE, BYE)
    await road.enroll("ann")
    await road.crowd.happened(("ann", "paid", None))
    await road.ask()

    assert await road.news() == []
    assert await road.awaits() is None


async def test_nobody_misses_what_happens_while_he_is_about_to_wait(road: Road, worker_pool: Pool[Record]) -> None:
    """Whoever decides holds the subject; the inbox comes after him and finds that he waits."""
    first = {"id": "first", **{key: value for key, value in wait_for(event("go")).items() if key != "id"}}
    await road.publish(first | {"next": "await"}, wait_for(PAID), LATE, BYE)
    await road.enroll("ann")
    await road.crowd.happened(("ann", "go", None))
    await road.news()

    async with Holding(road, worker_pool):  # has looked, sees "go" and no payment, and has not committed
        await road.crowd.happened(("ann", "paid", None))
        keys = await road.crowd.inbox.waiting()
        held = await road.crowd.inbox.work(keys)

    assert held.subjects == 0
    assert await road.news() == ["ann"]
    assert (await road.ask()).outcome == "completed"


class Holding(Transactions):
    """A decision that is made and not committed until the block ends."""

    def __init__(self, road: Road, pool: Pool[Record]) -> None:
        super().__init__(pool)
        self._road = road
        self._decided, self._go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def write(
        self, project_no: int | None, *, committed: Callable[[], None] | None = None
    ) -> AsyncIterator[_Connection]:
        async with super().write(project_no, committed=committed) as conn:
            yield conn
            self._decided.set()
            await self._go_on.wait()

    async def __aenter__(self) -> None:
        self._deciding = asyncio.create_task(self._road.ask(by=Advance(self, self._road.versions)))
        await self._decided.wait()

    async def __aexit__(self, *raised: object) -> None:
        self._go_on.set()
        assert (await self._deciding).step_id == "await"


async def test_where_the_subject_awaits_nothing_it_costs_one_look(road: Road, worker_pool: Pool[Record]) -> None:
    await road.publish(MONTH, BYE, journey_id="plain")
    await road.publish(wait_for(PAID), LATE, BYE, journey_id="paying")
    await road.enroll("ann", journey_id="plain")
    await road.enroll("bob", journey_id="paying")
    await road.news()
    transactions = Overheard(worker_pool)
    inbox = Inbox(transactions, road.versions)

    async def statements(subject_id: str) -> list[str]:
        """Those of a transaction of the inbox about one event, once its name is known."""
        for _ in range(2):
            await road.crowd.happened((subject_id, "paid", None))
            transactions.statements.clear()
            await inbox.work(await road.crowd.inbox.waiting())
        return [statement for statement in transactions.statements if statement.strip()]

    of_ann, of_bob = await statements("ann"), await statements("bob")

    assert sum("awaits" in statement for statement in of_ann) == 1
    (poke,) = (statement for statement in of_bob if statement not in of_ann)
    assert "INSERT INTO outbox" in poke


class Overheard(Transactions):
    """Transactions whose statements are noted down."""

    def __init__(self, pool: Pool[Record]) -> None:
        super().__init__(pool)
        self.statements: list[str] = []

    @asynccontextmanager
    async def write(
        self, project_no: int | None, *, committed: Callable[[], None] | None = None
    ) -> AsyncIterator[_Connection]:
        async with super().write(project_no, committed=committed) as conn:
            with conn.query_logger(lambda record: self.statements.append(record.query)):
                yield conn
