"""Forgetting somebody: from the answer on nothing finds them, nothing of theirs is taken in, and all is erased once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from orchestrator.application import enrollment, forgetting, preferences, publishing, segments, subjects
from orchestrator.application.enrollment import Enrolled
from orchestrator.application.erasure_replays import replay
from orchestrator.application.erasures import Erasures
from orchestrator.application.inbox import Inbox
from orchestrator.application.ingest import Ingest
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.erasure import Erasure, Origin, Phase
from orchestrator.domain.event import Event, Outcome
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound, SubjectForgotten
from orchestrator.domain.subject import SubjectPatch
from orchestrator.storage import clock, erasing, erasures, idempotency, outbox, tombstones
from orchestrator.storage.erasure_ledger import ErasureLedger, Forgotten, LedgerUnreadable, Lifted, read
from orchestrator.temporal.erasures import RunRemoval
from tests.integration.journey_world import ANY_STATE, World
from tests.integration.test_erasure import WHO, live, tables
from tests.integration.test_merging import tables_about_subjects
from tests.lock_waits import waits_for_a_lock

if TYPE_CHECKING:
    from pathlib import Path

    from asyncpg import Connection, Pool, Record
    from temporalio.client import Client

SECRET = b"s" * 48
#: How far the counting of a kind of events, the closing of a journey, the pokes for a project or an enrollment job have
#: come: nobody's.
PLACES = {"derived_events", "journey_closings", "topic_pokes", "enrollment_jobs"}


@pytest.fixture
async def world(owner: Connection[Record], api_pool: Pool[Record]) -> World:
    made = await World.make(owner, api_pool)
    await made.furnish()
    return made


async def known(world: World, *subject_ids: str, **attributes: Any) -> None:
    async with world.transactions.write(world.scope.project_no) as conn:
        patches = [SubjectPatch(subject_id=subject_id, attributes=attributes) for subject_id in subject_ids]
        await subjects.upsert(conn, world.scope.project_no, patches)


async def forget(world: World, subject_id: str) -> Erasure:
    return await world.do(forgetting.forget, SECRET, subject_id)


def event(number: int, subject_id: str) -> Event:
    return Event(event_id=f"e-{number}", name="seen", subject_id=subject_id, occurred_at=None, properties=b"{}")


async def end(world: World, erasure: Erasure) -> None:
    """As workers leave an erasure."""
    await world.owner.execute(
        "UPDATE erasures SET phase = 'done', ended_at = now(), bucket = NULL, subject_no = NULL, subject_ids = NULL"
        " WHERE erasure_id = $1",
        erasure.erasure_id,
    )


async def test_every_table_that_knows_subjects_says_what_becomes_of_its_rows(owner: Connection[Record]) -> None:
    listed = [
        *erasing.AT_ONCE_GONE, *erasing.WITH_MEMBERSHIP, *erasing.LATER_GONE, *erasing.ANONYMIZED, *erasing.KEPT,
        *erasing.OWN,
    ]  # fmt: skip

    assert {*listed} == await tables_about_subjects(owner) - PLACES
    assert len(listed) == len({*listed}) + 1, "tests of communications are looked for twice"


async def test_nobody_finds_who_was_forgotten_and_all_that_could_act_for_them_is_gone(
    world: World, worker_pool: Pool[Record]
) -> None:
    await live(world, worker_pool)
    key = await world.subject(WHO)

    erasure = await forget(world, WHO)

    assert (erasure.phase, erasure.ids, erasure.origin) == (Phase.LEDGER, 1, Origin.REQUEST)
    with pytest.raises(NotFound, match="no subject"):
        async with world.transactions.read(world.scope.project_no) as conn:
            await subjects.get(conn, world.scope.project_no, WHO)
    left = await tables(world.owner, f"subject_no = {key.subject_no}", column="subject_no")
    assert left & {*erasing.AT_ONCE_GONE, *erasing.WITH_MEMBERSHIP} == set()
    assert await Inbox(Transactions(worker_pool), Versions()).waiting() == []
    entries = await world.owner.fetch("SELECT action, resource_id, metadata FROM audit_log ORDER BY audit_no DESC")
    assert entries[0]["action"] == "subject_forgotten"
    assert WHO not in str([tuple(entry) for entry in entries])


async def test_rows_are_erased_some_at_a_time_and_ledgers_stay_without_the_person(
    world: World, worker_pool: Pool[Record]
) -> None:
    await live(world, worker_pool)
    key = await world.subject(WHO)
    before = {table: await world.owner.fetchval(f"SELECT count(*) FROM {table}") for table in erasing.KEPT}
    erasure = await forget(world, WHO)
    await end(world, erasure)  # whose ids are the last to go

    transactions = Transactions(worker_pool)
    met: list[dict[str, int]] = []
    while not met or met[-1]:
        async with transactions.write(None) as conn:
            met.append(await erasing.some(conn, key, limit=1))

    assert sum("events" in step for step in met) == 1
    assert await tables(world.owner, "a_row::text LIKE '%canary%'") == set()
    left = await tables(world.owner, f"subject_no = {key.subject_no}", column="subject_no")
    assert left == {*erasing.ANONYMIZED, *erasing.KEPT}
    assert before == {table: await world.owner.fetchval(f"SELECT count(*) FROM {table}") for table in erasing.KEPT}


async def test_a_send_that_nobody_will_hear_of_any_more_ends_unknown(world: World, worker_pool: Pool[Record]) -> None:
    execution_id = await world.lay_execution("ann")
    await world.lay_send("ann", execution_id, seq=1)
    await world.owner.execute("UPDATE sends SET state = 'dispatching', settled_at = NULL")
    await world.lay_call("ann", execution_id, seq=2)
    await world.owner.execute("UPDATE webhook_calls SET state = 'calling', settled_at = NULL")
    key = await world.subject("ann")
    await forget(world, "ann")

    async with Transactions(worker_pool).write(None) as conn:
        await erasing.some(conn, key)

    sends = await world.owner.fetch("SELECT state, reason, provider_id FROM sends")
    assert [tuple(row) for row in sends] == [("unknown", "subject_forgotten", None)]
    calls = await world.owner.fetch("SELECT state, reason, answer FROM webhook_calls")
    assert [tuple(row) for row in calls] == [("failed", "subject_forgotten", None)]


async def test_with_any_id_all_ids_of_the_person_are_forgotten(world: World) -> None:
    await known(world, "ann", "bob", "cleo")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    await world.do(merge, SECRET, RuleBook(), "bob", into="cleo")

    erasure = await forget(world, "ann")

    assert erasure.ids == 3
    for subject_id in ("ann", "bob", "cleo"):
        with pytest.raises(SubjectForgotten):
            await known(world, subject_id)
    assert await world.owner.fetchval("SELECT count(*) FROM subjects") == 0


async def test_an_id_that_nobody_has_is_forgotten_as_well_and_asking_again_changes_nothing(world: World) -> None:
    first, again = await forget(world, "nobody"), await forget(world, "nobody")

    assert again == first
    assert await world.owner.fetchval("SELECT count(*) FROM subjects") == 0
    with pytest.raises(SubjectForgotten):
        await known(world, "nobody")


async def test_an_id_that_is_none_is_refused(world: World) -> None:
    for wrong in ("", "a b", "x" * 129):
        with pytest.raises(InvalidArgument):
            await forget(world, wrong)


async def test_whatever_comes_with_a_forgotten_id_is_refused_and_the_rest_of_it_is_taken(
    world: World, owner: Connection[Record]
) -> None:
    await forget(world, "ann")
    ingest, project_no = Ingest(world.transactions), world.scope.project_no
    batch = [event(1, "ann"), event(2, "bob"), event(3, "ann"), event(2, "bob")]

    taken = await ingest.take(project_no, batch, backfill=False)
    again = await ingest.take(project_no, batch, backfill=False)

    assert taken == [Outcome.FORGOTTEN, Outcome.ACCEPTED, Outcome.FORGOTTEN, Outcome.DUPLICATE]
    assert again == [Outcome.FORGOTTEN, Outcome.DUPLICATE, Outcome.FORGOTTEN, Outcome.DUPLICATE]
    assert [row["event_id"] for row in await owner.fetch("SELECT event_id FROM events")] == ["e-2"]
    assert await owner.fetchval("SELECT count(*) FROM event_ids") == 1, "of what was refused nothing is remembered"
    assert await owner.fetchval("SELECT refused FROM tombstones") == 4
    with pytest.raises(SubjectForgotten):
        await known(world, "bob", "ann")
    with pytest.raises(SubjectForgotten):
        await world.do(segments.add_members, "vip", ["ann", "bob"])
    async with world.transactions.write(project_no) as conn:
        with pytest.raises(SubjectForgotten):
            await preferences.update(
                conn, project_no, "ann", [PreferenceChange(channel="*", category="*", opted_out=True)]
            )


async def test_who_is_enrolled_by_a_forgotten_id_is_skipped_and_counted(
    world: World, owner: Connection[Record]
) -> None:
    await world.draft("welcome", {"steps": [{"id": "bye", "exit": {}}]})
    await world.do(publishing.publish, "welcome", ANY_STATE)
    await forget(world, "ann")

    enrolled: Enrolled = await world.do(enrollment.enroll, Versions(), "welcome", ["ann", "bob", "bob"])

    assert (enrolled.enrolled, enrolled.skipped, enrolled.total) == (1, 2, 3)
    assert enrolled.refused == {"subject_forgotten": 1}
    counted = await owner.fetch("SELECT reason, total FROM refusal_counts")
    assert [tuple(row) for row in counted] == [("subject_forgotten", 1)]
    assert await owner.fetchval("SELECT refused FROM tombstones") == 1


async def test_an_owner_lifts_it_for_all_ids_once_everything_is_erased(world: World) -> None:
    await known(world, "ann", "bob")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    erasure = await forget(world, "bob")

    with pytest.raises(FailedPrecondition, match="wait until"):
        await world.do(forgetting.lift, "ann")
    await end(world, erasure)
    with pytest.raises(NotFound):
        await world.do(forgetting.lift, "cleo")
    lifted = await world.do(forgetting.lift, "ann")

    assert lifted.lifted_at is not None
    await known(world, "ann", "bob")
    # They are somebody else from now on, and can be forgotten again.
    again = await forget(world, "ann")
    assert again.erasure_id != erasure.erasure_id
    assert again.ids == 1


async def test_the_ledger_learns_of_a_lift_once_it_is_committed_however_often_it_could_not_be_written(
    world: World, worker_pool: Pool[Record], temporal: Client, tmp_path: Path
) -> None:
    ledger = ErasureLedger(tmp_path / "ledger")
    at_work, without, failing = (
        Erasures(Transactions(worker_pool), RunRemoval(temporal, searchable=False), one)
        for one in (ledger, None, ErasureLedger(tmp_path / "file"))
    )
    (tmp_path / "file").touch()
    erasure = await forget(world, "ann")
    await carried_out(worker_pool, temporal, erasure.erasure_id, ledger)

    with pytest.raises(ConnectionResetError):
        async with world.transactions.write(world.scope.project_no) as conn:
            await forgetting.lift(conn, world.scope, "ann")
            raise ConnectionResetError  # at the commit
    assert await at_work.write_down() == 0
    lifted = await world.do(forgetting.lift, "ann")
    assert [await one.write_down() for one in (without, failing)] == [0, 0]
    assert sum(await asyncio.gather(*(at_work.write_down() for _ in range(4)))) == 1

    forgotten, line = read([tmp_path / "ledger"])
    assert isinstance(forgotten, Forgotten)
    assert isinstance(line, Lifted)
    assert (line.erasure_id, line.project_id, line.lifted_at) == (erasure.erasure_id, "default", lifted.lifted_at)
    receipt = await world.look(forgetting.get, erasure.erasure_id)
    assert receipt.phases[Phase.LEDGER].counts == {"lines": 1, "lifts": 1}
    assert await at_work.write_down() == 0


async def test_what_was_erased_without_a_ledger_is_written_down_when_there_is_one(
    world: World, worker_pool: Pool[Record], temporal: Client, tmp_path: Path
) -> None:
    made = [await forget(world, subject_id) for subject_id in ("ann", "bob", "cleo")]
    for erasure in made:
        await carried_out(worker_pool, temporal, erasure.erasure_id)
    await world.do(forgetting.lift, "bob")
    receipt = await world.look(forgetting.get, made[0].erasure_id)
    assert receipt.phases[Phase.LEDGER].counts == {"lines": 0}
    removal, ledger = RunRemoval(temporal, searchable=False), ErasureLedger(tmp_path)

    assert await Erasures(Transactions(worker_pool), removal, ledger).write_down() == 2

    assert [line.erasure_id for line in read([tmp_path])] == [made[0].erasure_id, made[2].erasure_id]
    await world.owner.execute("DELETE FROM tombstones; DELETE FROM erasures")
    await known(world, "ann", "bob", "cleo")
    assert (await replay(world.transactions, SECRET, read([tmp_path]))).found == 2


@pytest.mark.parametrize("rival", ["forget", "events", "upsert", "enroll", "merge", "delete"])
async def test_two_who_meet_leave_nobody_behind(world: World, owner: Connection[Record], rival: str) -> None:
    """Whoever comes first: what is there afterwards of the person is gone, or was refused."""
    await world.draft("welcome", {"steps": [{"id": "bye", "exit": {}}]})
    await world.do(publishing.publish, "welcome", ANY_STATE)
    project_no = world.scope.project_no
    for turn in range(8):
        ann, bob = f"ann-{turn}", f"bob-{turn}"
        await known(world, *([ann, bob] if rival in ("merge", "delete") or turn % 2 else [bob]))

        async def other(ann: str = ann, bob: str = bob, turn: int = turn) -> object:
            match rival:
                case "forget":
                    return await forget(world, ann)
                case "events":
                    return await Ingest(world.transactions).take(
                        project_no, [event(2 * turn, ann), event(2 * turn + 1, bob)], backfill=False
                    )
                case "upsert":
                    await known(world, ann)
                    return None
                case "enroll":
                    return await world.do(enrollment.enroll, Versions(), "welcome", [ann, bob])
                case "merge":
                    return await world.do(merge, SECRET, RuleBook(), ann, into=bob)
                case _:
                    await world.do(subjects.delete, SECRET, ann, ANY_STATE)
                    return None

        erasure, came = await asyncio.gather(forget(world, ann), other(), return_exceptions=True)

        assert isinstance(erasure, Erasure)
        assert not isinstance(came, BaseException) or isinstance(came, SubjectForgotten | NotFound | FailedPrecondition)
        if rival == "forget":
            assert came == erasure
        assert await owner.fetchval("SELECT count(*) FROM subjects WHERE subject_id = $1", ann) == 0
        assert await owner.fetchval("SELECT count(*) FROM subject_aliases WHERE alias_id = $1", ann) == 0
        gone = erasure.ids == 2  # both were one already
        assert await owner.fetchval("SELECT count(*) FROM subjects WHERE subject_id = $1", bob) == (0 if gone else 1)
        assert await owner.fetchval("SELECT count(*) FROM erasures") == turn + 1
        assert await owner.fetchval("SELECT count(*) FROM inbox AS i LEFT JOIN subjects AS s USING (subject_no)"
                                    " WHERE s.subject_no IS NULL") == 0  # fmt: skip


async def test_whoever_gives_up_asking_has_forgotten_nobody(world: World, owner: Connection[Record]) -> None:
    await known(world, "ann")
    async with world.transactions.write(world.scope.project_no) as conn:
        await conn.execute("SELECT FROM subjects FOR UPDATE")
        asking = asyncio.create_task(forget(world, "ann"))
        await waits_for_a_lock(asking, owner)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    assert await owner.fetchval("SELECT count(*) FROM subjects") == 1
    assert await owner.fetchval("SELECT (SELECT count(*) FROM erasures) + (SELECT count(*) FROM tombstones)") == 0


class Answers:
    """What was answered to requests, by their names."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done = 0

    async def give(self, request_id: str, answer: bytes = b"nothing") -> bytes:
        async def work(_: object) -> bytes:
            self.done += 1
            return answer

        return await self.world.transactions.once(self.world.scope, "orchestrator.v1.S/M", request_id, b"f", work)

    async def erase(self, pool: Pool[Record], *subject_ids: str, within: tuple[str, ...] = ()) -> int:
        """Those of the last hour; how many."""
        async with Transactions(pool).write(None) as conn:
            now = datetime.now(UTC)
            return await idempotency.erase(
                conn, self.world.scope.project_no, subject_ids, now,
                since=now - timedelta(hours=1), before=now + timedelta(hours=1), within=within,
            )  # fmt: skip


async def test_answers_that_spoke_of_them_are_gone_and_take_no_effect_twice(
    world: World, worker_pool: Pool[Record]
) -> None:
    answers, long = Answers(world), "x" * 128
    about = {"r1": "ann", "r2": "anna", "r3": long}
    for request_id, subject_id in about.items():
        await answers.give(request_id, StringValue(value=subject_id).SerializeToString())
    await answers.give("r4", b"\x2a\x1ddisp:hi__v1__j%5Fs__paid-17")
    await answers.give("upsert-maria")

    erased = await answers.erase(worker_pool, "ann", "maria", long, "j_s", within=("__j%5Fs__",))

    assert erased == 4
    assert await answers.erase(worker_pool, "ann", "maria", long) == 0
    for request_id in ("r1", "r3", "r4", "upsert-maria"):
        with pytest.raises(FailedPrecondition, match="was erased"):
            await answers.give(request_id)
    assert b"anna" in await answers.give("r2")
    assert answers.done == 5
    kept = str([tuple(row) for row in await world.owner.fetch("SELECT * FROM idempotency")])
    assert "maria" not in kept
    assert "paid-17" not in kept
    assert await world.owner.fetchval("SELECT count(*) FROM idempotency") == 5


async def test_answers_are_looked_through_some_at_a_time_and_a_step_that_was_cut_off_begins_where_it_did(
    world: World, worker_pool: Pool[Record], temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.application.erasures.ANSWERS", 3)
    elsewhere = await World.make(world.owner, worker_pool, "elsewhere")
    elsewhere.transactions = world.transactions
    answers, other = Answers(world), Answers(elsewhere)
    for number in range(8):
        for of in (answers, other):
            await of.give(f"r{number}", StringValue(value="ann").SerializeToString())
    erasure = await forget(world, "ann")
    await world.owner.execute("UPDATE erasures SET phase = 'answers'")
    transactions, removal = Transactions(worker_pool), RunRemoval(temporal, searchable=False)
    phases: list[Phase] = []
    places = []

    while not phases or phases[-1] is not Phase.DONE:
        # Each by a process of its own.
        step = await Erasures(transactions, removal, None).step(world.scope.project_no, erasure.erasure_id)
        phases.append(step.phase)
        places.append(await world.owner.fetchval("SELECT answers_to FROM erasures"))

    assert phases == [Phase.ANSWERS, Phase.ANSWERS, Phase.DONE]
    assert places[0] < places[1]
    assert places[2] is None
    receipt = await world.look(forgetting.get, erasure.erasure_id)
    assert receipt.phases[Phase.ANSWERS].counts == {"answers": 8}
    left = "SELECT project_no, count(*) FROM idempotency WHERE response IS NOT NULL GROUP BY 1"
    assert [tuple(row) for row in await world.owner.fetch(left)] == [(other.world.scope.project_no, 8)]


async def test_answers_of_other_projects_and_of_before_are_not_read(world: World, worker_pool: Pool[Record]) -> None:
    await world.owner.execute(
        "INSERT INTO idempotency (project_no, principal, method, request_id, fingerprint, response, created_at)"
        " SELECT n % 50 + 1, 'key:k1', 'M', n::text, '', '', now() - n * interval '1 second'"
        "   FROM generate_series(1, 20000) AS n; ANALYZE idempotency"
    )
    async with Transactions(worker_pool).write(None) as conn:
        now = await clock.now(conn)
        part = await idempotency.part(conn, 1, now - timedelta(hours=2), now, 20)
        assert part is not None
        await idempotency.erase(conn, 1, ["ann"], now, since=part.since, before=part.before)
        read = await conn.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'idempotency'"
        )

    assert not part.last
    assert read <= 60


async def test_requests_named_after_a_short_id_are_found_where_it_is_a_word(
    world: World, worker_pool: Pool[Record]
) -> None:
    answers = Answers(world)
    for request_id in ("upsert-a.b", "a.b", "a.b:1", "upsert-aXb", "a.bc", "data.bin"):
        await answers.give(request_id)

    assert await answers.erase(worker_pool, "a.b") == 3

    kept = {row[0] for row in await world.owner.fetch("SELECT request_id FROM idempotency")}
    assert {name for name in kept if not name.startswith("erased:")} == {"upsert-aXb", "a.bc", "data.bin"}
    with pytest.raises(FailedPrecondition, match="was erased"):
        await answers.give("a.b")
    assert answers.done == 6


async def test_a_start_that_a_sweeper_is_taking_is_waited_for_and_taken_by_nobody_after_it(
    world: World, worker_pool: Pool[Record], owner: Connection[Record]
) -> None:
    await world.draft("welcome", {"steps": [{"id": "bye", "exit": {}}]})
    await world.do(publishing.publish, "welcome", ANY_STATE)
    await known(world, "ann")
    await world.do(enrollment.enroll, Versions(), "welcome", ["ann"])
    lease, workers = timedelta(seconds=30), Transactions(worker_pool)
    async with workers.write(None) as conn:
        now = datetime.now(UTC) + timedelta(seconds=60)
        [entry], _ = await outbox.claim(conn, now=now, lease=lease, limit=9)
        assert entry.kind == "start"
        asking = asyncio.create_task(forget(world, "ann"))
        await waits_for_a_lock(asking, owner)
    await asking

    assert await owner.fetchval("SELECT starts_until FROM erasures") == now + lease
    async with workers.write(None) as conn:
        # Whoever looked before sees the subject still, and must find no row.
        assert await outbox.claim(conn, now=now + 2 * lease, lease=lease, limit=9) == ([], [])


async def test_erasures_are_listed_newest_first_in_pages(world: World) -> None:
    made = [await forget(world, f"p-{number}") for number in range(3)]

    first, place = await world.look(forgetting.page, after=None, limit=2)
    rest, end_of_all = await world.look(forgetting.page, after=place, limit=2)

    assert [one.erasure_id for one in (*first, *rest)] == [one.erasure_id for one in reversed(made)]
    assert end_of_all is None
    with pytest.raises(NotFound):
        await world.look(forgetting.get, "era-none")


def line_of(erasure: Erasure, hashes: list[bytes]) -> Forgotten:
    return Forgotten(
        erasure_id=erasure.erasure_id,
        project_id="default",
        subject_ref=erasure.subject_ref,
        hashes=tuple(hashes),
        requested_at=erasure.requested_at,
    )


async def ledgered(world: World, *subject_ids: str) -> list[Forgotten]:
    """What the ledger has of forgetting them, in a database that then knows nothing of it: a backup of before."""
    lines = []
    for subject_id in subject_ids:
        erasure = await forget(world, subject_id)
        async with world.transactions.read(world.scope.project_no) as conn:
            lines.append(line_of(erasure, await tombstones.hashes(conn, world.scope.project_no, erasure.erasure_id)))
    await world.owner.execute("DELETE FROM tombstones; DELETE FROM erasures")
    return lines


async def lived_twice(world: World) -> tuple[Forgotten, Forgotten]:
    """What the ledger has of somebody with two ids who was forgotten and let in again as two, one of whom was then
    forgotten once more: in a database that knows nothing of it.
    """
    await known(world, "ann", "bob")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    (both,) = await ledgered(world, "bob")
    await known(world, "ann", "bob")
    (ann,) = await ledgered(world, "ann")
    await forget(world, "bob")
    await world.owner.execute("DELETE FROM tombstones; DELETE FROM erasures")
    return both, ann


async def carried_out(
    worker_pool: Pool[Record], temporal: Client, erasure_id: str, ledger: ErasureLedger | None = None
) -> None:
    """By a worker, to the end: of somebody who never travelled."""
    steps = Erasures(Transactions(worker_pool), RunRemoval(temporal, searchable=False), ledger)
    async with asyncio.timeout(20):
        while (await steps.step(1, erasure_id)).phase is not Phase.DONE:
            pass


async def test_after_a_restore_whomever_the_ledger_names_is_forgotten_again(world: World) -> None:
    lines = await ledgered(world, "ann", "bob", "cleo")
    await known(world, "ann", "bob", "dora")
    lifted = Lifted(erasure_id=lines[1].erasure_id, project_id="default", lifted_at=datetime.now(UTC))
    elsewhere = replace(lines[0], project_id="elsewhere")

    first = await replay(world.transactions, SECRET, [*lines, lines[0], lifted, elsewhere])
    again = await replay(world.transactions, SECRET, [*lines, lifted])

    assert (first.named, first.unknown, first.found, first.refused) == (4, 3, 2, 1)
    assert first.missing_projects == ("elsewhere",)
    assert (again.unknown, again.found) == (0, 0)
    rows = await world.owner.fetch("SELECT subject_id FROM subjects")
    assert [row["subject_id"] for row in rows] == ["dora"]
    for subject_id in ("ann", "cleo"):
        with pytest.raises(SubjectForgotten):
            await known(world, subject_id)
    found = await world.look(forgetting.get, lines[0].erasure_id)
    assert (found.origin, found.phase) == (Origin.REPLAY, Phase.LEDGER)
    nobody = await world.look(forgetting.get, lines[2].erasure_id)
    assert nobody.phase is Phase.DONE
    # Lifted later on: erased again, and taken in once that is done.
    bob = await world.look(forgetting.get, lines[1].erasure_id)
    assert bob.lifted_at is not None


@pytest.mark.parametrize("turned", [False, True])
async def test_whoever_was_let_in_again_and_forgotten_once_more_stays_forgotten(world: World, turned: bool) -> None:
    first, second = [(await ledgered(world, "ann"))[0] for _ in range(2)]
    await known(world, "ann")
    lifted = Lifted(erasure_id=first.erasure_id, project_id="default", lifted_at=datetime.now(UTC))
    lines: list[Forgotten | Lifted] = [first, lifted, second]

    replayed = await replay(world.transactions, SECRET, lines[::-1] if turned else lines)

    assert (replayed.unknown, replayed.found) == (2, 1)
    done, under_way = [await world.look(forgetting.get, line.erasure_id) for line in (first, second)]
    assert (done.phase, done.lifted_at is None) == (Phase.DONE, False)
    assert (under_way.phase, under_way.lifted_at) == (Phase.LEDGER, None)
    with pytest.raises(SubjectForgotten):
        await known(world, "ann")


@pytest.mark.parametrize("turned", [False, True])
async def test_of_one_who_was_two_when_let_in_again_only_who_was_forgotten_once_more_stays_so(
    world: World, worker_pool: Pool[Record], temporal: Client, turned: bool
) -> None:
    first, second = await lived_twice(world)
    lifted = Lifted(erasure_id=first.erasure_id, project_id="default", lifted_at=datetime.now(UTC))
    await known(world, "ann", "bob")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    lines: list[Forgotten | Lifted] = [first, lifted, second]

    replayed = await replay(world.transactions, SECRET, lines[::-1] if turned else lines)

    assert (replayed.unknown, replayed.found) == (2, 1)
    assert await world.owner.fetchval("SELECT count(*) FROM subjects") == 0
    for subject_id in ("ann", "bob"):
        with pytest.raises(SubjectForgotten):
            await known(world, subject_id)
    with pytest.raises(FailedPrecondition, match="wait until"):  # of the same person the other one erases something
        await world.do(forgetting.lift, "ann")
    await carried_out(worker_pool, temporal, first.erasure_id)
    await known(world, "bob")
    with pytest.raises(SubjectForgotten):
        await known(world, "ann")
    await world.do(forgetting.lift, "ann")
    await known(world, "ann")


@pytest.mark.parametrize("done", [False, True])
async def test_a_lift_that_the_backup_lacks_of_an_erasure_that_it_has_is_made_again(
    world: World, worker_pool: Pool[Record], temporal: Client, done: bool
) -> None:
    await known(world, "ann")
    erasure = await forget(world, "ann")
    async with world.transactions.read(world.scope.project_no) as conn:
        line = line_of(erasure, await tombstones.hashes(conn, world.scope.project_no, erasure.erasure_id))
    if done:
        await carried_out(worker_pool, temporal, erasure.erasure_id)
    lifted = Lifted(erasure_id=erasure.erasure_id, project_id="default", lifted_at=datetime.now(UTC))

    first = await replay(world.transactions, SECRET, [line, lifted])
    again = await replay(world.transactions, SECRET, [lifted, line])

    assert (first.unknown, first.lifted, again.lifted) == (0, 1, 0)
    if not done:
        with pytest.raises(SubjectForgotten):
            await known(world, "ann")
        await carried_out(worker_pool, temporal, erasure.erasure_id)
    await known(world, "ann")
    assert (await world.look(forgetting.get, erasure.erasure_id)).lifted_at == lifted.lifted_at


async def test_lines_of_one_erasure_count_together(world: World) -> None:
    """After a restore that lacked a merge, its second line says less than the first."""
    await known(world, "ann", "bob")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    (line,) = await ledgered(world, "bob")
    await known(world, "ann", "bob")
    less = replace(line, hashes=line.hashes[:1])

    replayed = await replay(world.transactions, SECRET, [line, less])

    assert (replayed.named, replayed.found) == (1, 2)


async def test_a_merge_of_before_that_the_backup_lacks_makes_two_erasures_of_one(world: World) -> None:
    await known(world, "ann", "bob")
    await world.do(merge, SECRET, RuleBook(), "ann", into="bob")
    lines = await ledgered(world, "bob")
    await known(world, "ann", "bob")

    replayed = await replay(world.transactions, SECRET, lines)

    assert replayed.found == 2
    assert await world.owner.fetchval("SELECT count(*) FROM subjects") == 0
    listed, _ = await world.look(forgetting.page, after=None, limit=10)
    assert {one.erasure_id for one in listed} == {lines[0].erasure_id, f"{lines[0].erasure_id}.1"}


async def test_a_line_that_is_not_whole_is_left_out_where_it_is_the_last_and_refused_elsewhere(
    world: World, tmp_path: Path
) -> None:
    lines = await ledgered(world, "ann")
    ledger = ErasureLedger(tmp_path)
    await ledger.add(lines[0])
    await ledger.add(lines[0])
    (path,) = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    whole = path.read_bytes()

    for cut in range(len(whole) // 2 + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert set(read([tmp_path])) == {*lines}
    path.write_bytes(whole[:40] + b"\n" + whole)
    with pytest.raises(LedgerUnreadable, match="line 1"):
        read([tmp_path])
    path.write_bytes(json.dumps({"kind": "else", "erasureId": "e", "projectId": "p"}).encode() + b"\n")
    with pytest.raises(LedgerUnreadable):
        read([tmp_path])
    assert "ann" not in whole.decode()


async def test_processes_write_to_files_of_their_own_and_go_on_in_a_new_one_after_a_failure(
    world: World, tmp_path: Path
) -> None:
    (line,) = await ledgered(world, "ann")
    ledgers = [ErasureLedger(tmp_path / "ledger") for _ in range(2)]

    await asyncio.gather(*(ledger.add(line) for ledger in ledgers * 20))
    assert len(list((tmp_path / "ledger").iterdir())) == 2
    assert read([tmp_path / "ledger"]) == [line] * 40
    (tmp_path / "ledger").rename(tmp_path / "away")
    with pytest.raises(OSError, match="ledger"):
        await ledgers[0].add(line)
    await ledgers[0].add(line)
    assert read([tmp_path / "ledger"]) == [line]


async def test_the_hash_of_an_id_is_another_one_in_another_project_and_for_another_instance(
    world: World, owner: Connection[Record]
) -> None:
    hashes = {await owner.fetchval("SELECT tombstone_hash($1, $2)", no, who) for no in (1, 2) for who in ("ann", "bob")}
    await owner.execute("UPDATE instance SET secret = secret || '\\x00'")
    hashes.add(await owner.fetchval("SELECT tombstone_hash(1, 'ann')"))

    assert len(hashes) == 5
    assert {len(digest) for digest in hashes} == {32}


async def test_an_erasure_is_told_again_when_its_workflow_may_be_lost(world: World, worker_pool: Pool[Record]) -> None:
    erasure = await forget(world, "ann")
    async with Transactions(worker_pool).write(None) as conn:
        now = datetime.now(UTC)
        (told,) = await erasures.claim_untold(conn, now, 10)
        assert await erasures.claim_untold(conn, now, 10) == []
        assert await erasures.claim_untold(conn, now + 2 * erasures.TELL_AGAIN, 10) == [told]
        await erasures.not_told(conn, [told])
        assert await erasures.claim_untold(conn, now, 10) == [told]
    assert told.erasure_id == erasure.erasure_id
    await end(world, erasure)
    async with Transactions(worker_pool).write(None) as conn:
        assert await erasures.claim_untold(conn, now + 9 * erasures.TELL_AGAIN, 10) == []
