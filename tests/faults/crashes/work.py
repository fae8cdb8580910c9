"""Scenarios of what workers do that nobody waits for: crowds, page by page, segments, schedules, policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.faults.checker import Effect
from tests.faults.checker.op_log import AUDIT
from tests.faults.crashes.ground import BYE, LONG, NAP, Ground, Json, crowd, entered

SIZE = 12


def belongs(crowd_id: str) -> Json:
    """Those that have it in their attributes to which crowd they belong."""
    return {"kind": "attribute", "fieldPath": "crowd", "operator": "equals", "value": crowd_id}


async def jobs(ground: Ground) -> None:
    people = crowd("worker", SIZE)
    await ground.people(people, {"crowd": "jobs"})
    body = {"id": "crowd", "name": "Crowd", "predicate": belongs("jobs")}
    await ground.field.call("POST", "/v1/audiences", body, effects=[Effect(AUDIT, "audience_created audience/crowd")])

    async def turn(number: int) -> None:
        journey_id = f"job-{number}"
        await ground.journey(journey_id, NAP, BYE)
        job = {"id": journey_id, "journeyId": journey_id, "audienceId": "crowd"}
        effects = [*entered(journey_id, people), Effect(AUDIT, f"enrollment_job_created journey/{journey_id}")]
        await ground.field.call("POST", "/v1/enrollmentJobs", job, effects=effects)

    await ground.turn_after_turn("jobs", turn)

    async def counted() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT state, enrolled, errors FROM enrollment_jobs WHERE enrollment_job_id LIKE 'job-%'"
        )
        assert [tuple(row) for row in rows] == [("done", SIZE, 0)]

    ground.checks.append(counted)


async def segments(ground: Ground) -> None:
    await ground.people(crowd("member", SIZE), {"crowd": "segments"})

    async def turn(number: int) -> None:
        body = {"id": f"segment-{number}", "name": "Segment", "rules": belongs("segments")}
        created = [Effect(AUDIT, f"segment_created segment/segment-{number}")]
        await ground.field.call("POST", "/v1/segments", body, effects=created)

    await ground.turn_after_turn("segments", turn)

    async def right() -> None:
        sizes = await ground.rows.fetch(
            "SELECT g.segment_id, (SELECT count(*) FROM subject_segments AS m WHERE m.project_no = g.project_no"
            "   AND m.segment_nos @> ARRAY[g.segment_no]) AS members,"
            " (SELECT count(*) FROM segment_transitions AS t WHERE t.project_no = g.project_no"
            "   AND t.segment_no = g.segment_no) AS transitions FROM segments AS g WHERE segment_id LIKE 'segment-%'"
        )
        assert {(row["members"], row["transitions"]) for row in sizes} == {(SIZE, SIZE)}
        assert await ground.rows.fetchval("SELECT coalesce(sum(drift), 0) FROM segment_runs") == 0

    ground.checks.append(right)


async def carrying(ground: Ground) -> None:
    async def turn(number: int) -> None:
        journey_id = f"moved-{number}"
        await ground.journey(journey_id, {**LONG, "id": "nap"}, BYE)
        await ground.enroll(journey_id, crowd(journey_id, 6))
        await ground.field.call("PATCH", f"/v1/journeys/{journey_id}", {"steps": [NAP, BYE]})
        path = f"/v1/journeys/{journey_id}:previewCarry"
        shown = await ground.field.call("POST", path, {"carry": "compatible"})
        await ground.publish(journey_id, 2, {"carry": "compatible", "token": shown["token"]})

    await ground.turn_after_turn("carrying", turn)

    async def all_over() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT outcome, version FROM executions WHERE journey_id LIKE 'moved-%'"
        )
        assert [tuple(row) for row in rows] == [("completed", 2)]
        rows = await ground.rows.fetch("SELECT DISTINCT matched, told FROM carries")
        assert [tuple(row) for row in rows] == [(6, 6)]

    ground.checks.append(all_over)


async def holding(ground: Ground) -> None:
    async def turn(number: int) -> None:
        journey_id = f"held-{number}"
        came = {"entryCondition": {"eventName": f"come-{number}"}}
        await ground.journey(journey_id, NAP, BYE, whilePaused="hold", **came)
        await ground.field.call("POST", f"/v1/journeys/{journey_id}:pause", {})
        await ground.happen(f"come-{number}", crowd(journey_id, 5), enters=journey_id)
        await ground.until("count(*) = 5 FROM held_entries WHERE journey_id = $1", journey_id)
        await ground.field.call("POST", f"/v1/journeys/{journey_id}:resume", {})

    await ground.turn_after_turn("holding", turn)

    async def none_held() -> None:
        assert await ground.rows.fetchval("SELECT count(*) FROM held_entries") == 0

    ground.checks.append(none_held)


async def replaying(ground: Ground) -> None:
    async def turn(number: int) -> None:
        journey_id = f"refused-{number}"
        people = crowd(journey_id, 5)
        await ground.journey(journey_id, NAP, BYE, entryCondition={"eventName": f"knock-{number}"})
        await ground.field.call("POST", f"/v1/journeys/{journey_id}:pause", {})
        await ground.happen(f"knock-{number}", people)
        await ground.until("count(*) = 5 FROM refused_entries WHERE journey_id = $1", journey_id)
        await ground.field.call("POST", f"/v1/journeys/{journey_id}:resume", {})
        effects = [*entered(journey_id, people), Effect(AUDIT, f"entry_replay_requested journey/{journey_id}")]
        path, body = f"/v1/journeys/{journey_id}/refusedEntries:replay", {"reason": "journey_paused", "atMost": 5}
        await ground.field.call("POST", path, body, effects=effects)

    await ground.turn_after_turn("replaying", turn)

    async def counted() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT looked_at, enrolled, errors FROM entry_replays WHERE journey_id LIKE 'refused-%'"
        )
        assert [tuple(row) for row in rows] == [(5, 5, 0)]

    ground.checks.append(counted)


async def quieting(ground: Ground) -> None:
    """Caps change, which nobody meets; who waits for such a change is told all the same."""

    async def turn(number: int) -> None:
        caps = [{"channel": "webhook", "category": "marketing", "limit": 90 - number, "window": "1d"}]
        await ground.field.call("PATCH", "/v1/projects/default", {"settings": {"frequencyCaps": caps}})

    await ground.turn_after_turn("quieting", turn)


#: What was published before it was due: of the past nothing is made up for.
_DUE = (
    "FROM journey_versions AS v WHERE v.journey_id LIKE 'due-%'"
    " AND v.published_at < (v.definition -> 'schedule' ->> 'at')::timestamptz"
)


async def scheduling(ground: Ground) -> None:
    await ground.people(crowd("punctual", 4), {"crowd": "scheduling"})
    body = {"id": "punctual", "name": "Punctual", "predicate": belongs("scheduling")}
    await ground.field.call("POST", "/v1/audiences", body)

    async def turn(number: int) -> None:
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)
        schedule = {"at": due.isoformat().replace("+00:00", "Z")}
        await ground.journey(f"due-{number}", NAP, BYE, audienceId="punctual", schedule=schedule)

    await ground.turn_after_turn("scheduling", turn, pause=25)

    async def fired_once() -> None:
        rows = await ground.rows.fetch(
            "SELECT (SELECT count(*) FROM enrollment_jobs AS b WHERE b.journey_id = v.journey_id) AS jobs,"
            " (SELECT count(*) FROM enrollments AS n WHERE n.journey_id = v.journey_id) AS enrolled"
            f" {_DUE}"
        )
        assert {(row["jobs"], row["enrolled"]) for row in rows} == {(1, 4)}

    ground.rests.append(
        f"NOT EXISTS (SELECT {_DUE} AND NOT EXISTS ("
        "SELECT FROM enrollment_jobs AS b WHERE b.journey_id = v.journey_id))"
    )
    ground.checks.append(fired_once)


async def learning(ground: Ground) -> None:
    """Each journey whose branch learns has a policy made when it is published."""
    arms = [{"id": "a", "next": "bye"}, {"id": "b", "next": "bye"}]
    goal = {"eventName": "paid", "window": "7d"}

    async def turn(number: int) -> None:
        await ground.journey(f"learner-{number}", {"id": "choose", "adaptiveBranch": {"arms": arms}}, BYE, goal=goal)

    await ground.turn_after_turn("learning", turn)
    ground.rests.append("NOT EXISTS (SELECT FROM policy_requests)")

    async def published_once() -> None:
        rows = await ground.rows.fetch(
            "SELECT DISTINCT count(*), max(policy_version) FROM policy_versions WHERE journey_id LIKE 'learner-%'"
            " GROUP BY journey_id"
        )
        assert [tuple(row) for row in rows] == [(1, 1)]

    ground.checks.append(published_once)
