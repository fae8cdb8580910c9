"""Why an execution stands where it stands, and why somebody would be let into a journey or not: what is told is what
would be decided.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.application import audiences, canceling, lifecycle, preferences, segments, trigger_contracts
from orchestrator.application.entry_explanations import EntryExplanation, explain_entry
from orchestrator.application.execution_explanations import ExecutionExplanation, ExecutionExplanations
from orchestrator.application.executions import Executions
from orchestrator.domain.audience import END_USER, Audience
from orchestrator.domain.etag import Expected
from orchestrator.domain.holdout import Holdout, held_out_by
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.standing import Doing
from orchestrator.domain.trigger_contract import Contract
from orchestrator.storage import clock
from orchestrator.temporal.client import Target, connect
from orchestrator.temporal.statuses import Statuses
from tests.integration.journey_world import ANY_STATE, IN_VIP
from tests.integration.road import BYE, LATE, MONTH, Road, event, wait_for

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

HELLO = {"id": "hello", "send": {"communicationId": "welcome"}, "next": "bye"}
ASK = {"id": "ask", "branch": {"arms": [{"id": "vip", "when": IN_VIP, "next": "bye"}], "otherwise": "bye"}}
PRO: dict[str, Any] = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}


@pytest.fixture
async def road(owner: Connection[Record], api_pool: Pool[Record], worker_pool: Pool[Record]) -> Road:
    return await Road.make(owner, api_pool, worker_pool)


async def standing(road: Road) -> ExecutionExplanation:
    """Of the one execution there is; Temporal is away."""
    executions = Executions(Statuses(await connect(Target(address="127.0.0.1:1"), lazy=True)))
    world = road.crowd.world
    execution_id = str(await road.owner.fetchval("SELECT execution_id FROM executions"))
    return await ExecutionExplanations(executions, road.versions).explain(world.transactions, world.scope, execution_id)


async def entry(road: Road, subject_id: str = "ann") -> EntryExplanation:
    return await road.crowd.world.look(explain_entry, road.versions, "welcome", subject_id)


def refusals(told: EntryExplanation) -> dict[str, str | None]:
    return {way.kind: way.refusal for way in told.ways}


async def test_who_waits_for_a_time_is_said_to_wait_and_when_they_wake(road: Road) -> None:
    await road.publish(MONTH, BYE, maxDurationDays=60)
    await road.enroll("ann")

    told = await standing(road)

    assert (told.doing, told.step_kind, told.awaits) == (Doing.WAIT, "wait", ())
    assert told.summary.startswith("Waits on the step pause, for 30d, since ")
    assert told.whole.seen.execution.wakes_at is not None
    assert told.expires_at == told.whole.seen.execution.started_at + timedelta(days=60)


async def test_who_waits_for_an_event_is_said_to_and_what_they_would_leave_for(road: Road) -> None:
    rules = [{"id": "gone-pro", "when": PRO}, {"id": "returned", **event("return")}]
    await road.publish(wait_for(event("purchase")), BYE, LATE, exitRules=rules)
    await road.enroll("ann")

    told = await standing(road)

    assert (told.doing, told.awaits) == (Doing.WAIT_FOR, ("attributes", "event:purchase", "event:return"))
    assert "for the event purchase" in told.summary
    assert "it goes on to late" in told.summary
    assert [(t.rule_id, t.event_name, t.truth) for t in told.truths] == [
        ("gone-pro", "", False),
        ("returned", "return", False),
        ("", "purchase", False),
    ]
    assert told.truths[0].explanation is not None
    assert told.truths[0].explanation["evidence"] == {"type": "missing"}


async def test_who_could_go_on_and_has_not_is_said_to_be_due(road: Road) -> None:
    await road.publish(wait_for(event("purchase")), BYE, LATE)
    await road.enroll("ann")
    await road.crowd.happened(("ann", "purchase", None))

    told = await standing(road)

    assert told.doing is Doing.DUE
    (awaited,) = told.truths
    assert awaited.truth is True
    assert awaited.last_event_at is not None


async def test_who_is_parked_is_told_what_is_missing(road: Road) -> None:
    await road.publish({**MONTH, "next": "ask"}, ASK, BYE)
    await road.enroll("ann")
    await road.crowd.world.do(segments.delete, "vip", Expected(), force=True)
    await road.ask(now=datetime.now(UTC) + timedelta(days=31))

    told = await standing(road)

    assert told.doing is Doing.PARK
    assert told.summary.startswith("Is stopped on the step ask (segment_not_found), since ")
    assert [(truth.arm_id, truth.truth) for truth in told.truths] == [("vip", None)]


async def test_a_send_that_nobody_begins_an_end_and_a_cancel_are_said_in_words(road: Road) -> None:
    await road.publish(HELLO, BYE)
    await road.enroll("ann")
    sends = await standing(road)
    execution_id = str(sends.whole.seen.execution.execution_id)

    await road.crowd.world.do(canceling.cancel, execution_id, "wrong-price")
    canceled = await standing(road)
    await road.ask()
    ended = await standing(road)

    assert (sends.doing, "not begun" in sends.summary) == (Doing.SEND, True)
    assert canceled.summary.endswith("It was told to end (wrong-price).") or canceled.doing is Doing.DUE
    assert ended.doing is Doing.ENDED
    assert ended.summary.startswith("Ended canceled on the step hello at ")


async def test_explaining_writes_nothing(road: Road) -> None:
    await road.publish(wait_for(event("purchase")), BYE, LATE)
    await road.enroll("ann")
    before = await road.owner.fetchval("SELECT e::text || e.xmin::text FROM executions AS e")

    await standing(road)
    await entry(road)

    assert await road.owner.fetchval("SELECT e::text || e.xmin::text FROM executions AS e") == before


async def start_on_purchase(road: Road, **more: Any) -> None:
    """A journey for pro subjects that starts on purchases over 10."""
    over = {"kind": "attribute", "fieldPath": "amount", "operator": "gt", "value": 10}
    contract = Contract(name="Bought", event_name="purchase", predicate=over, entry_key_path="order")
    await road.crowd.world.do(trigger_contracts.create, "big", contract)
    await road.publish(HELLO, BYE, triggerContractId="big", audienceId="buyers", **more)


async def test_an_entry_is_explained_gate_by_gate_and_by_its_events(road: Road) -> None:
    await start_on_purchase(road)
    now = await clock.now(road.owner)
    await road.crowd.known(ann={"plan": "pro"})
    await road.crowd.happened(("ann", "purchase", now - timedelta(minutes=3)), amount=50, order="o-1")
    await road.crowd.happened(("ann", "purchase", now - timedelta(minutes=2)), amount=5, order="o-2")
    await road.crowd.happened(("ann", "purchase", now - timedelta(days=9)), amount=50, order="o-3")
    await road.crowd.happened(("ann", "purchase", now - timedelta(minutes=1)), amount=50)
    await road.crowd.settle()

    told = await entry(road)

    assert refusals(told) == {"event": "audience", "enroll": "audience"}
    assert [(gate.name, gate.refusal) for gate in told.ways[0].gates] == [
        ("journey", None),
        ("dates", None),
        ("audience", "audience"),
        ("re_entry", None),
        ("consent", None),
    ]
    explained = told.ways[0].gates[2].explanation
    assert explained is not None
    assert (explained["kind"], explained["truth"]) == ("in_cohort", False)
    assert [(heard.entry_key, heard.refusal) for heard in told.events] == [
        (None, "entry_key_missing"),
        ("o-2", "trigger_predicate"),
        ("o-1", "audience"),
        ("o-3", "too_old"),
    ]
    assert told.refused == {"audience": 1, "entry_key_missing": 1, "too_old": 1, "trigger_predicate": 1}


async def test_what_is_told_of_an_entry_is_what_admission_decides(road: Road) -> None:
    await start_on_purchase(road)
    await road.crowd.known(ann={})
    await road.crowd.world.do(segments.add_members, "vip", ["ann"])
    before = await entry(road)
    await road.crowd.happened(("ann", "purchase", None), amount=50, order="o-1")
    await road.crowd.settle()

    after = await entry(road)

    assert refusals(before) == {"event": None, "enroll": None}
    (enrolled,) = after.earlier
    (heard,) = after.events
    assert (heard.refusal, heard.enrollment and heard.enrollment.enrollment_id) == ("re_entry", enrolled.enrollment_id)
    # Another order would come in; by hand, once is all.
    assert refusals(after) == {"event": None, "enroll": "re_entry"}


async def test_for_every_reason_what_is_told_before_is_what_is_counted_afterwards(road: Road) -> None:
    """Those of single events stand above, `loop` in test_loops.py; of archived journeys nobody hears."""
    world, crowd = road.crowd.world, road.crowd
    now = await clock.now(road.owner)
    pros = Audience(name="Pros", description="", subject_type=END_USER, predicate=PRO)
    for audience_id in ("pros", "lost"):
        await world.do(audiences.create, audience_id, pros)
    settings = {"url": "https://example.com"}
    await world.add_communication("letter", "marketing", channel="webhook", settings=settings)
    letter = {"id": "hello", "send": {"communicationId": "letter"}, "next": "bye"}
    journeys: dict[str, dict[str, Any]] = {
        "not_started": {"startsAt": (now + timedelta(days=1)).isoformat()},
        "ended": {"endsAt": (now - timedelta(days=1)).isoformat()},
        "audience": {"audienceId": "pros"},
        "audience_not_found": {"audienceId": "lost"},
        "cohort_not_found": {"audienceId": "buyers"},
        "re_entry": {"reentry": {"policy": "once"}},
        "opted_out": {"steps": [HELLO, BYE]},
        "suppressed": {"steps": [letter, BYE]},
        "journey_paused": {},
    }
    for reason, definition in journeys.items():
        steps = definition.pop("steps", [BYE])
        await road.publish(*steps, journey_id=reason, triggerContractId="bought", **definition)
    await road.enroll("ann", journey_id="re_entry")
    await world.do(lifecycle.pause, "journey_paused", ANY_STATE)
    await world.do(audiences.delete, "lost", ANY_STATE)
    await world.do(segments.delete, "vip", ANY_STATE, force=True)
    async with world.transactions.write(crowd.project_no) as conn:
        change = PreferenceChange(channel="log", category="*", opted_out=True)
        await preferences.update(conn, crowd.project_no, "ann", [change])
        await preferences.suppress(conn, world.scope, b"", "ann", channel="webhook", reason="bounced")

    told = {}
    for journey_id in journeys:
        (way, *_) = (await world.look(explain_entry, road.versions, journey_id, "ann")).ways
        told[journey_id] = way.refusal
    await crowd.happened(("ann", "purchase", None))
    await crowd.settle()

    assert told == {reason: reason for reason in journeys}
    counted = await road.owner.fetch("SELECT journey_id, reason, total FROM refusal_counts ORDER BY journey_id")
    assert [tuple(row) for row in counted] == [(reason, reason, 1) for reason in sorted(journeys)]


async def test_a_paused_journey_and_an_opt_out_stand_against_an_entry(road: Road) -> None:
    await road.publish(HELLO, BYE)
    await road.crowd.known(ann={})
    await road.crowd.world.do(lifecycle.pause, "welcome", ANY_STATE)
    changes = [PreferenceChange(channel="*", category="*", opted_out=True)]
    async with road.crowd.world.transactions.write(road.crowd.project_no) as conn:
        await preferences.update(conn, road.crowd.project_no, "ann", changes)

    told = await entry(road)

    assert not told.active
    (by_hand,) = told.ways
    assert [(gate.name, gate.refusal) for gate in by_hand.gates if gate.refusal] == [
        ("journey", "journey_not_active"),
        ("consent", "opted_out"),
    ]


async def test_a_journey_without_a_version_has_no_way_in(road: Road) -> None:
    await road.crowd.world.draft("welcome")
    await road.crowd.known(ann={})

    told = await entry(road)

    assert (told.version, told.ways, told.events) == (None, (), ())


async def test_who_is_not_there_is_not_found(road: Road) -> None:
    await road.publish(HELLO, BYE)

    with pytest.raises(NotFound, match="no such subject"):
        await entry(road, "nobody")
    with pytest.raises(NotFound, match="no journey"):
        await road.crowd.world.look(explain_entry, road.versions, "nowhere", "ann")


async def test_a_holdout_is_told_of_beside_the_gates(road: Road) -> None:
    await road.publish(HELLO, BYE, holdout={"percent": 50})
    holdout = Holdout(percent=50)
    who = next(
        f"s{n}"
        for n in range(100)
        if held_out_by(None, holdout, project_id="default", journey_id="welcome", subject_id=f"s{n}")
    )
    await road.crowd.known(**{who: {}})

    told = await entry(road, who)
    await road.enroll(who)
    after = await entry(road, who)

    assert (refusals(told), told.held_out_by) == ({"enroll": None}, "journey")
    assert [(one.held_out_by, one.outcome) for one in after.earlier] == [("journey", None)]


async def test_a_send_that_a_gate_holds_off_is_said_to_wait_for_it(road: Road) -> None:
    held = {"communicationId": "welcome", "onBlocked": "wait"}
    await road.publish({**HELLO, "send": held}, BYE)
    await road.crowd.known(ann={})
    await road.owner.execute(
        'UPDATE projects SET settings = settings || \'{"frequencyCaps": [{"limit": 1, "window": "1d"}]}\''
    )
    execution_id = await road.crowd.world.lay_execution("ann", outcome="completed")
    await road.crowd.world.lay_send("ann", execution_id, seq=0)
    await road.owner.execute("UPDATE sends SET reserved_at = now(), settled_at = now()")
    await road.owner.execute("UPDATE executions SET journey_id = 'other'")
    await road.owner.execute("UPDATE enrollments SET journey_id = 'other'")
    await road.enroll("ann")
    await road.owner.execute("DELETE FROM executions WHERE outcome IS NOT NULL")

    told = await standing(road)

    assert told.doing is Doing.GATE
    assert "to send (frequency_cap)" in told.summary
