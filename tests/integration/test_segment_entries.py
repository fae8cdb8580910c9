"""Entering and leaving a segment start journeys: once for each transition, whoever noticed it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import (
    audiences,
    lifecycle,
    preferences,
    publishing,
    segments,
    subjects,
    trigger_contracts,
)
from orchestrator.application.enrollment import enroll
from orchestrator.application.journeys import Changes, update, view
from orchestrator.application.merging import merge
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.segments import PARKED
from orchestrator.application.versions import Versions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.journey import OnArchive
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import FailedPrecondition
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import doctor
from orchestrator.storage.doctor_checks import CHECKS
from tests.eventually import eventually
from tests.integration.crowd import Crowd

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

DAY = timedelta(days=1)
WEEK: dict[str, Any] = {"type": "last_n_days", "days": 7}
PRO = {"kind": "attribute", "fieldPath": "tier", "operator": "equals", "value": "pro"}
BOUGHT = {"kind": "event_fired", "eventName": "purchase", "window": WEEK}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
EACH_TIME = {"policy": "entry_key"}
ANY_STATE = Expected()


def now() -> datetime:
    return datetime.now(UTC)


def cohort(cohort_id: str) -> dict[str, Any]:
    return {"kind": "in_cohort", "cohortId": cohort_id}


@pytest.fixture
async def crowd(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Crowd:
    crowd = await Crowd.make(owner, api_pool, worker_pool)
    await crowd.world.furnish()
    return crowd


async def listen(
    crowd: Crowd, segment_id: str, journey_id: str = "welcome", *, contract: dict[str, Any] | None = None, **more: Any
) -> None:
    """An active journey that starts on entering the segment, or as the contract says."""
    made = Contract(
        **{"name": journey_id, "event_name": None, "predicate": None, "entry_key_path": None, "segment_id": segment_id}
        | (contract or {})
    )
    await crowd.world.do(trigger_contracts.create, f"for-{journey_id}", made)
    await crowd.world.draft(journey_id, {"triggerContractId": f"for-{journey_id}", "steps": [BYE], **more})
    await crowd.world.do(publishing.publish, journey_id, ANY_STATE)


async def started(crowd: Crowd, journey_id: str = "welcome") -> list[str]:
    """Who was let in, in order; each by a transition of its own, and with an execution."""
    rows = await crowd.owner.fetch(
        """
        SELECT s.subject_id, n.entry_kind, n.entry_key, e.execution_id FROM enrollments AS n
          JOIN subjects AS s USING (project_no, bucket, subject_no)
          LEFT JOIN executions AS e
            ON e.project_no = n.project_no AND e.bucket = n.bucket AND e.subject_no = n.subject_no
           AND e.execution_id = n.enrollment_id
         WHERE n.journey_id = $1 ORDER BY n.enrolled_at, s.subject_id
        """,
        journey_id,
    )
    assert all(row["entry_kind"] == "segment" and row["execution_id"] is not None for row in rows)
    assert len({row["entry_key"] for row in rows}) == len(rows)
    return [row["subject_id"] for row in rows]


async def refused(crowd: Crowd) -> dict[str, int]:
    rows = await crowd.owner.fetch("SELECT reason, sum(total)::int AS total FROM refusal_counts GROUP BY reason")
    return {row["reason"]: row["total"] for row in rows}


async def told(crowd: Crowd) -> int:
    """Entries of the inbox that a pass has left."""
    count: int = await crowd.owner.fetchval("SELECT count(*) FROM inbox WHERE kind = 'transitions'")
    return count


async def ready(crowd: Crowd, segment_id: str, rules: dict[str, Any]) -> None:
    """A segment that everybody has been held against."""
    await crowd.segment(segment_id, rules)
    await crowd.run("build")


async def test_an_event_starts_one_in_a_segment_being_built_whom_a_run_of_another_segment_met_first(
    crowd: Crowd,
) -> None:
    await crowd.known(old={"tier": "free"})
    await crowd.settle()
    await ready(crowd, "pros", PRO)
    await crowd.segment("buyers", BOUGHT)
    await listen(crowd, "buyers")
    await crowd.happened(("new", "purchase", None))

    await crowd.world.do(segments.evaluate, "pros")
    await crowd.run("evaluate", "pros")
    await crowd.settle()

    assert await crowd.transitions("buyers") == [("new", True, "data")]
    assert await started(crowd) == ["new"]


async def test_an_event_that_makes_a_subject_enter_starts_one_execution(crowd: Crowd) -> None:
    await ready(crowd, "buyers", BOUGHT)
    await listen(crowd, "buyers")
    await crowd.happened(("ann", "purchase", None), ("bob", "visit", None))
    await crowd.settle()
    assert await started(crowd) == ["ann"]

    await crowd.happened(("ann", "purchase", None), ("ann", "purchase", now() - DAY))
    await crowd.settle()

    assert await started(crowd) == ["ann"]
    assert await refused(crowd) == {}
    entered_at = await crowd.owner.fetchval("SELECT as_of FROM segment_transitions ORDER BY transition_no LIMIT 1")
    assert await crowd.owner.fetchval("SELECT triggered_at FROM enrollments") == entered_at


async def test_a_window_that_runs_out_starts_those_who_leave_and_those_who_enter_by_it(crowd: Crowd) -> None:
    await crowd.segment("buyers", BOUGHT)
    await ready(crowd, "quiet", {"kind": "not", "clause": BOUGHT})
    await listen(crowd, "buyers", "gone", contract={"transition": "left"})
    await listen(crowd, "quiet", "asleep")
    await crowd.happened(("ann", "purchase", now() - 7 * DAY + timedelta(seconds=1)))
    await crowd.settle()
    assert (await started(crowd, "gone"), await started(crowd, "asleep")) == ([], [])

    async def noticed() -> bool:
        await crowd.settle()
        return await started(crowd, "gone") == ["ann"] == await started(crowd, "asleep")

    await eventually(noticed, within=5)


@pytest.mark.parametrize("asked", [False, True])
async def test_new_rules_start_nobody_unless_the_contract_asks_for_it(crowd: Crowd, asked: bool) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    await listen(crowd, "pros", contract={"include_definition_changes": asked})

    await crowd.run("build")
    await crowd.settle()
    assert await started(crowd) == (["ann"] if asked else [])

    await crowd.known(bob={"tier": "pro"})
    await crowd.settle()
    assert await started(crowd) == (["ann", "bob"] if asked else ["bob"])


async def test_few_who_move_by_new_rules_are_treated_like_many(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    await listen(crowd, "pros", "quietly")
    await listen(crowd, "pros", "loudly", contract={"include_definition_changes": True})

    await crowd.known(ann={"tier": "pro", "plan": "x"})  # looked at before the pass comes by
    await crowd.settle()
    await crowd.run("build")
    await crowd.settle()

    assert (await started(crowd, "quietly"), await started(crowd, "loudly")) == ([], ["ann"])


async def begin_build(crowd: Crowd) -> int:
    """Hold everybody against the rules that are new, and leave the run unfinished; returns its number."""
    begun = await crowd.runs.begin(crowd.project_no, "build", None)
    assert begun is not None
    for part in begun.parts:
        await crowd.runs.work(crowd.project_no, begun.run_no, "build", None, part, lambda bucket: None)
    return begun.run_no


@pytest.mark.parametrize("by_pass", [False, True])
@pytest.mark.parametrize("met_in", ["the pass", "the inbox"])
async def test_while_rules_are_built_only_the_first_look_moves_because_they_are_new(
    crowd: Crowd, met_in: str, by_pass: bool
) -> None:
    await crowd.known(ann={"tier": "free"}, cleo={"tier": "pro"}, dan={"tier": "pro"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    await listen(crowd, "pros", reentry=EACH_TIME)
    await listen(crowd, "pros", "parting", contract={"transition": "left"})
    if met_in == "the pass":
        await begin_build(crowd)
    else:
        await crowd.known(ann={"plan": "x"}, cleo={"plan": "x"}, dan={"plan": "x"})
        await crowd.settle()
    assert await started(crowd) == []

    await crowd.known(ann={"tier": "pro"}, new={"tier": "pro"}, dan={"tier": "free"})
    if by_pass:
        await crowd.run("sweep" if met_in == "the pass" else "build")
    await crowd.settle()

    assert (await started(crowd), await started(crowd, "parting")) == (["ann", "new"], ["dan"])
    assert sorted(await crowd.transitions("pros")) == [
        ("ann", True, "data"),
        ("cleo", True, "definition"),
        ("dan", False, "data"),
        ("dan", True, "definition"),
        ("new", True, "data"),
    ]
    await crowd.run("build")
    await crowd.settle()
    await crowd.known(dan={"tier": "pro"})
    await crowd.settle()
    assert await started(crowd) == ["ann", "new", "dan"]
    assert await crowd.owner.fetchval("SELECT count(*) FROM segment_looks") == 0
    assert await crowd.owner.fetchval("SELECT coalesce(sum(drift), 0) FROM segment_runs") == 0
    assert await crowd.wrong() == []


@pytest.mark.parametrize("by_pass", [False, True])
async def test_rules_that_change_again_are_new_to_everybody_again(crowd: Crowd, by_pass: bool) -> None:
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    await listen(crowd, "pros")
    await crowd.known(ann={"plan": "x"}, bob={"plan": "x"})
    await crowd.settle()
    await begin_build(crowd)

    await crowd.world.do(segments.update, "pros", {"predicate": {**PRO, "value": "free"}}, ANY_STATE)
    await crowd.known(ann={"plan": "y"}, bob={"plan": "y"})
    if by_pass:
        await crowd.run("sweep")
    await crowd.settle()

    assert {cause for _, _, cause in await crowd.transitions("pros")} == {"definition"}
    assert await started(crowd) == []
    await crowd.known(ann={"tier": "free"})
    await crowd.settle()
    assert await started(crowd) == ["ann"]


async def test_an_evaluation_makes_only_its_own_segment_known(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    await crowd.segment("also-pros", PRO)
    await crowd.world.do(segments.evaluate, "pros")
    await crowd.run("evaluate", "pros")

    await crowd.known(ann={"plan": "x"})
    await crowd.settle()

    assert await crowd.transitions("also-pros") == [("ann", True, "definition")]


async def test_who_has_met_new_rules_is_not_written_again(crowd: Crowd) -> None:
    await crowd.known(ann={"tier": "free"}, bob={"tier": "free"})
    await crowd.settle()
    await crowd.segment("pros", PRO)
    written = "SELECT array_agg(ctid::text ORDER BY subject_no) FROM subject_segments"
    await crowd.known(ann={"plan": "x"})
    await crowd.settle()
    before = await crowd.owner.fetchval(written)

    await begin_build(crowd)
    await crowd.known(ann={"plan": "y"}, bob={"plan": "y"})
    await crowd.settle()

    assert await crowd.owner.fetchval(written) == before


async def test_whom_a_sweep_finds_first_starts_all_the_same(crowd: Crowd) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros")
    await listen(crowd, "pros", "parting", contract={"transition": "left"})
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})

    await crowd.run("sweep")
    assert (await told(crowd), await started(crowd)) == (1, [])
    await crowd.settle()
    assert (await started(crowd), await started(crowd, "parting")) == (["ann"], [])

    await crowd.known(ann={"tier": "free"})
    await crowd.run("sweep")
    await crowd.settle()
    assert (await started(crowd), await started(crowd, "parting")) == (["ann"], ["ann"])
    assert await crowd.wrong() == []


async def test_a_sweep_tells_nobody_when_nobody_listens(crowd: Crowd) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros", contract={"transition": "left"})
    await crowd.known(ann={"tier": "pro"})

    await crowd.run("sweep")

    assert await told(crowd) == 0


async def test_sweeps_and_the_inbox_at_once_start_everybody_once(crowd: Crowd) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros", reentry=EACH_TIME)
    await listen(crowd, "pros", "parting", contract={"transition": "left"}, reentry=EACH_TIME)

    async def keep_changing() -> None:
        for round_number in range(4):
            await crowd.known(**{f"s{n}": {"tier": "pro" if (n + round_number) % 2 else "free"} for n in range(60)})
            await crowd.settle()

    async def keep_sweeping() -> None:
        for _ in range(3):
            await crowd.run("sweep")

    await asyncio.gather(keep_changing(), keep_sweeping(), keep_changing())
    await crowd.settle()

    moved = await crowd.transitions("pros")
    assert sorted(await started(crowd)) == sorted(subject_id for subject_id, entered, _ in moved if entered)
    assert sorted(await started(crowd, "parting")) == sorted(who for who, entered, _ in moved if not entered)
    assert await refused(crowd) == {}


async def test_a_list_starts_those_who_are_put_on_it_and_taken_off(crowd: Crowd) -> None:
    await crowd.segment("list", None)
    await listen(crowd, "list", "coming")
    await listen(crowd, "list", "parting", contract={"transition": "left"})

    await crowd.world.do(segments.add_members, "list", ["ann", "bob"])
    await crowd.settle()
    await crowd.world.do(segments.add_members, "list", ["ann"])
    await crowd.world.do(segments.remove_members, "list", ["bob", "cleo"])
    await crowd.settle()

    assert (await started(crowd, "coming"), await started(crowd, "parting")) == (["ann", "bob"], ["bob"])
    *entered, left = await crowd.transitions("list")
    assert (sorted(entered), left) == ([("ann", True, "data"), ("bob", True, "data")], ("bob", False, "data"))


@pytest.mark.parametrize(
    ("more", "times", "refusals"),
    [
        ({}, 1, {"re_entry": 2}),
        ({"reentry": EACH_TIME}, 3, {}),
        ({"reentry": {"policy": "interval", "interval": "1h"}}, 1, {"re_entry": 2}),
    ],
)
async def test_who_enters_again_is_let_in_as_the_policy_says(
    crowd: Crowd, more: dict[str, Any], times: int, refusals: dict[str, int]
) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros", **more)

    for tier in ("pro", "free", "pro", "free", "pro"):
        await crowd.known(ann={"tier": tier})
        await crowd.settle()

    assert await started(crowd) == ["ann"] * times
    assert await refused(crowd) == refusals


async def test_history_that_is_brought_in_starts_nobody(crowd: Crowd) -> None:
    await ready(crowd, "buyers", BOUGHT)
    await listen(crowd, "buyers", contract={"include_definition_changes": True})

    await crowd.happened(("ann", "purchase", now() - DAY), backfill=True)
    await crowd.settle()
    await crowd.happened(("bob", "purchase", now() - DAY), backfill=True)
    await crowd.run("sweep")
    await crowd.settle()

    assert await crowd.members("buyers") == {"ann", "bob"}
    assert {cause for _, _, cause in await crowd.transitions("buyers")} == {"backfill"}
    assert await started(crowd) == []


@pytest.mark.parametrize("by_pass", [False, True])
@pytest.mark.parametrize(
    ("wait", "cause"),
    [("the past", "time"), ("something", "data"), ("preferences", "time"), ("both", "data"), ("nothing", "time")],
)
async def test_a_window_that_ran_out_counts_even_where_the_past_has_changed(
    crowd: Crowd, wait: str, cause: str, by_pass: bool
) -> None:
    await ready(crowd, "buyers", BOUGHT)
    await listen(crowd, "buyers", contract={"transition": "left"})
    await crowd.happened(("ann", "purchase", now() - 7 * DAY + timedelta(seconds=2)))
    await crowd.settle()
    assert await crowd.members("buyers") == {"ann"}
    due = "SELECT count(*) = 1 FROM subject_segments WHERE next_due <= clock_timestamp()"
    await eventually(lambda: crowd.owner.fetchval(due), within=5)

    if wait in ("the past", "both"):
        await crowd.happened(("ann", "visit", now() - 30 * DAY), backfill=True)
    if wait in ("something", "both"):
        await crowd.known(ann={"plan": "x"})
    if wait == "preferences":
        change = PreferenceChange(channel="*", category="marketing", opted_out=True)
        async with crowd.world.transactions.write(crowd.project_no) as conn:
            await preferences.update(conn, crowd.project_no, "ann", [change])
    if by_pass:
        await crowd.run("sweep")
    await crowd.settle()

    assert (await crowd.transitions("buyers"))[1:] == [("ann", False, cause)]
    assert await started(crowd) == ["ann"]
    assert await crowd.wrong() == []


async def test_the_contracts_predicate_asks_about_the_subject(crowd: Crowd) -> None:
    await ready(crowd, "buyers", BOUGHT)
    await listen(crowd, "buyers", contract={"predicate": {"kind": "and", "clauses": [PRO, cohort("buyers")]}})
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"})

    await crowd.happened(("ann", "purchase", None), ("bob", "purchase", None))
    await crowd.settle()

    assert await started(crowd) == ["ann"]
    assert await refused(crowd) == {"trigger_predicate": 1}


async def test_audience_and_consent_stand_at_this_door_too(crowd: Crowd) -> None:
    audience = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    await crowd.world.do(audiences.create, "pros", audience)
    await ready(crowd, "buyers", BOUGHT)
    hello = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
    await listen(crowd, "buyers", audienceId="pros", steps=[hello, BYE])
    await crowd.known(ann={"tier": "pro"}, bob={"tier": "free"}, cleo={"tier": "pro"})
    change = PreferenceChange(channel="*", category="marketing", opted_out=True)
    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await preferences.update(conn, crowd.project_no, "cleo", [change])

    await crowd.happened(*((name, "purchase", None) for name in ("ann", "bob", "cleo")))
    await crowd.settle()

    assert await started(crowd) == ["ann"]
    assert await refused(crowd) == {"audience": 1, "opted_out": 1}


async def test_who_is_deleted_before_the_inbox_is_worked_through_starts_nothing(crowd: Crowd) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros")
    await crowd.known(ann={"tier": "pro"})
    await crowd.run("sweep")
    assert await told(crowd) == 1

    async with crowd.world.transactions.write(crowd.project_no) as conn:
        await subjects.delete(conn, crowd.world.scope, b"secret", "ann", ANY_STATE)
    await crowd.settle()

    assert await started(crowd) == []
    assert await crowd.owner.fetchval("SELECT count(*) FROM inbox") == 0


async def merged(crowd: Crowd, subject_id: str, into: str) -> None:
    await crowd.world.do(merge, b"s" * 48, RuleBook(), subject_id, into=into)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("on_it", [False, True])
async def test_who_is_merged_before_the_inbox_is_worked_through_comes_to_the_list_once(
    crowd: Crowd, on_it: bool, dead: bool
) -> None:
    await crowd.segment("list", None)
    await listen(crowd, "list", reentry=EACH_TIME)
    await crowd.known(ann={}, bob={})
    if on_it:
        await crowd.world.do(segments.add_members, "list", ["bob"])
    await crowd.settle()
    before = await started(crowd)
    await crowd.world.do(segments.add_members, "list", ["ann"])
    if dead:
        await crowd.owner.execute(
            "WITH gone AS (DELETE FROM inbox RETURNING *) "
            "INSERT INTO inbox_dead SELECT inbox_no, project_no, bucket, subject_no, kind, name_nos, event_nos, "
            "occurred_ats, attempts, received_at, 'X', now(), transition_nos FROM gone"
        )

    await merged(crowd, "ann", "bob")
    await merged(crowd, "bob", await stranger(crowd))
    if dead:
        await crowd.owner.execute(
            "INSERT INTO inbox (project_no, bucket, subject_no, kind, transition_nos, received_at) "
            "SELECT project_no, bucket, subject_no, kind, transition_nos, now() FROM inbox_dead"
        )
    await crowd.settle()

    assert before == (["bob"] if on_it else [])
    assert await started(crowd) == ["cleo"]
    assert await crowd.members("list") == {"cleo"}
    await crowd.world.do(segments.remove_members, "list", ["cleo"])
    await crowd.settle()
    assert [entered for _, entered, _ in await crowd.transitions("list")] == [True, False]
    assert await crowd.wrong() == []


async def stranger(crowd: Crowd) -> str:
    """Somebody who has done nothing."""
    await crowd.known(cleo={})
    return "cleo"


@pytest.mark.parametrize("seen", [False, True])
async def test_who_is_merged_before_it_is_known_that_he_left_has_left(crowd: Crowd, seen: bool) -> None:
    await crowd.segment("list", None)
    await listen(crowd, "list", "coming")
    await listen(crowd, "list", "parting", contract={"transition": "left"})
    await crowd.known(ann={}, bob={})
    await crowd.world.do(segments.add_members, "list", ["ann"])
    if seen:
        await crowd.settle()
    await crowd.world.do(segments.remove_members, "list", ["ann"])

    await merged(crowd, "ann", "bob")
    await crowd.settle()

    assert (await started(crowd, "coming"), await started(crowd, "parting")) == (["bob"], ["bob"])
    assert await crowd.members("list") == set()
    assert await crowd.wrong() == []


@pytest.mark.parametrize(("tier", "stays"), [(None, True), ("free", False)])
async def test_whom_a_sweep_has_found_comes_as_the_one_he_is_merged_into(
    crowd: Crowd, tier: str | None, stays: bool
) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros", reentry=EACH_TIME)
    await crowd.known(ann={}, bob={} if tier is None else {"tier": tier})
    await crowd.settle()
    await crowd.known(ann={"tier": "pro"})
    await crowd.run("sweep")
    assert await told(crowd) == 1

    await merged(crowd, "ann", "bob")
    await crowd.settle()

    assert await started(crowd) == ["bob"]
    assert await crowd.members("pros") == ({"bob"} if stays else set())
    assert await crowd.wrong() == []


async def test_a_segment_that_something_names_is_not_deleted_by_accident(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.segment("others", {"kind": "not", "clause": cohort("pros")})
    await listen(crowd, "pros")
    asking = Contract(
        name="Asks", event_name=None, predicate=cohort("pros"), entry_key_path=None, segment_id="everyone"
    )
    await crowd.world.do(trigger_contracts.create, "asks", asking)

    with pytest.raises(FailedPrecondition, match=r"others.*asks.*for-welcome") as error:
        await crowd.world.do(segments.delete, "pros", ANY_STATE, force=False)

    assert [fault.path for fault in error.value.faults] == [
        "segment/others",
        "trigger_contract/asks",
        "trigger_contract/for-welcome",
    ]


PAUSE = {"id": "check", "wait": {"duration": "3d"}, "next": "bye"}


def asking(predicate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Definitions that ask this elsewhere than in a branch. All have a step `check`."""
    awaiting = {"id": "check", "waitFor": {"when": predicate}, "next": "bye"}
    return {
        "awaits": {"steps": [awaiting, BYE]},
        "leaves": {"exitRules": [{"id": "rule", "when": predicate}], "steps": [PAUSE, BYE]},
    }


async def test_waits_and_exit_rules_use_the_segments_that_they_name(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    deep = {"kind": "and", "clauses": [{"kind": "not", "clause": cohort("pros")}]}
    for journey_id, definition in asking(deep).items():
        await crowd.world.draft(journey_id, definition)
        await crowd.world.draft(f"old-{journey_id}", definition)
        await crowd.world.do(publishing.publish, f"old-{journey_id}", ANY_STATE)
        await crowd.world.lay_execution("ann", journey_id=f"old-{journey_id}", step_id="check")
        nothing = Changes(definition={"exitRules": None, "steps": [BYE]})
        await crowd.world.do(update, f"old-{journey_id}", nothing, ANY_STATE)
        await crowd.world.do(publishing.publish, f"old-{journey_id}", ANY_STATE)

    with pytest.raises(FailedPrecondition) as error:
        await crowd.world.do(segments.delete, "pros", ANY_STATE, force=False)

    assert [fault.path for fault in error.value.faults] == [
        "journey/awaits",
        "journey/leaves",
        "journey_version/old-awaits/1",
        "journey_version/old-leaves/1",
    ]


async def test_a_contract_whose_segment_is_gone_waits_for_another_of_that_name(crowd: Crowd) -> None:
    await ready(crowd, "pros", PRO)
    await listen(crowd, "pros")
    await crowd.world.do(segments.delete, "pros", ANY_STATE, force=True)
    await crowd.known(ann={"tier": "pro"})
    await crowd.settle()
    found = await crowd.world.look(publishing.validate, "welcome")
    assert [(fault.path, fault.reason) for fault in found.faults] == [("triggerContractId", "COHORT_NOT_FOUND")]

    await ready(crowd, "pros", PRO)
    await crowd.known(bob={"tier": "pro"})
    await crowd.settle()

    assert await started(crowd) == ["bob"]


@pytest.mark.parametrize("by", ["contract", "audience", "hand"])
async def test_the_audit_log_says_which_cohort_keeps_subjects_out(crowd: Crowd, by: str) -> None:
    await crowd.segment("listed", None)
    await ready(crowd, "buyers", BOUGHT)
    audience = Audience(name="Vips", description="", subject_type=END_USER, predicate=cohort("listed"))
    await crowd.world.do(audiences.create, "vips", audience)
    contract = {"predicate": cohort("listed")} if by == "contract" else {}
    await listen(crowd, "buyers", contract=contract, **({} if by == "contract" else {"audienceId": "vips"}))
    await crowd.world.do(segments.delete, "listed", ANY_STATE, force=True)

    if by == "hand":
        await crowd.world.do(enroll, Versions(), "welcome", ["ann"])
    else:
        await crowd.happened(("ann", "purchase", None))
        await crowd.settle()

    assert await refused(crowd) == {"cohort_not_found": 1}
    said = await crowd.owner.fetchval("SELECT metadata FROM audit_log WHERE action = 'entry_refused_cohort_not_found'")
    assert json.loads(said) == {"segmentId": "listed", "version": 1}


async def test_journeys_whose_segment_was_deleted_by_force_say_so(crowd: Crowd) -> None:
    async def problems(journey_id: str = "welcome") -> list[tuple[str, int, datetime | None]]:
        found = (await crowd.world.look(view, journey_id)).problems
        return [(problem.reason, problem.total, problem.last_hour) for problem in found]

    await ready(crowd, "pros", PRO)
    for journey_id in ("welcome", "paused", "over", "mended"):
        await listen(crowd, "pros", journey_id)
    await crowd.world.draft("drafted", {"triggerContractId": "for-welcome", "steps": [BYE]})
    await listen(crowd, "everyone", "asks", contract={"predicate": cohort("pros")})
    await crowd.world.do(lifecycle.pause, "paused", ANY_STATE)
    await crowd.world.do(lifecycle.archive, "over", OnArchive.FINISH, ANY_STATE)
    await crowd.world.do(update, "mended", Changes(definition={"triggerContractId": None}), ANY_STATE)
    await crowd.world.do(publishing.publish, "mended", ANY_STATE)
    said_before = await problems()

    await crowd.world.do(segments.delete, "pros", ANY_STATE, force=True)

    lines = await crowd.owner.fetch(
        "SELECT resource_id, actor, metadata FROM audit_log WHERE action = 'trigger_segment_deleted' ORDER BY 1"
    )
    assert [(line["resource_id"], line["actor"], json.loads(line["metadata"])) for line in lines] == [
        (journey_id, "key:test", {"triggerContractId": f"for-{journey_id}", "segmentId": "pros"})
        for journey_id in ("paused", "welcome")
    ]
    assert (said_before, await problems()) == ([], [("trigger_segment_not_found", 0, None)])
    for journey_id in ("paused", "over", "mended", "drafted", "asks"):
        assert await problems(journey_id) == []
    async with crowd.transactions.read(None) as conn:
        (check,) = (check for check in CHECKS if check.name == "journeys_without_segment")
        found = await doctor.check(conn, check, now())
    assert found.examples == ("project 1, journey welcome: segment pros, by the trigger contract for-welcome",)
    await ready(crowd, "pros", PRO)
    assert await problems() == []


async def test_executions_parked_for_a_segment_are_woken_when_it_is_there_again(crowd: Crowd) -> None:
    await crowd.segment("pros", PRO)
    await crowd.segment("others", {"kind": "not", "clause": cohort("pros")})
    for journey_id, asked in (("direct", "pros"), ("by-way-of", "others"), ("elsewhere", "vip")):
        arms = [{"id": "in", "when": cohort(asked), "next": "bye"}]
        steps = [{"id": "check", "branch": {"arms": arms, "otherwise": "bye"}}, BYE]
        await crowd.world.draft(journey_id, {"steps": steps})
        await crowd.world.do(publishing.publish, journey_id, ANY_STATE)
    laid = {
        journey_id: await crowd.world.lay_execution("ann", journey_id=journey_id, step_id="check")
        for journey_id in ("direct", "by-way-of", "elsewhere")
    }
    for journey_id, definition in asking(cohort("others")).items():
        await crowd.world.draft(journey_id, definition)
        await crowd.world.do(publishing.publish, journey_id, ANY_STATE)
        laid[journey_id] = await crowd.world.lay_execution("ann", journey_id=journey_id, step_id="check")
    running = await crowd.world.lay_execution("bob", journey_id="direct", step_id="check")
    await crowd.world.do(segments.delete, "pros", ANY_STATE, force=True)
    assert await crowd.world.pokes() == set()
    await crowd.owner.execute(
        "UPDATE executions SET parked = $1 WHERE execution_id = ANY ($2::uuid[])", PARKED, list(laid.values())
    )

    await crowd.segment("pros", PRO)

    assert await crowd.world.pokes() == {laid[name] for name in ("direct", "by-way-of", "awaits", "leaves")}
    assert running not in await crowd.world.pokes()
