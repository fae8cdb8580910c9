"""What happens seldom: providers that want nothing, entries that nobody decides, people who come back, rows that nobody
can read. Each lets the product come to functions that no other scenario has it come to.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx

from tests.eventually import eventually
from tests.faults.crashes.ground import BYE, LONG, NAP, Ground, Json, crowd
from tests.faults.crashes.travels import RATE
from tests.faults.crashes.work import belongs
from tests.provider.provider import Mode

_TOLD = """
INSERT INTO outbox (project_no, bucket, subject_no, execution_id, kind, workflow_id, leased_until, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now(), now())
"""
_HAPPENED = """
INSERT INTO inbox (project_no, bucket, subject_no, kind, name_nos, event_nos, occurred_ats, received_at)
VALUES ($1, $2, $3, 'events', '{1,1}', '{1}', '{now}', now())
"""


async def failing(ground: Ground) -> None:
    """Messages that their provider refuses, until their journey sends no more by itself, and somebody has it go on."""
    nowhere: Json = {"id": "nowhere", "name": "Nowhere", "channel": "webhook", "category": "marketing"}
    nowhere |= {"subject": "A", "body": "B", "settings": {"url": f"{ground.field.provider.url}/nowhere"}}
    await ground.field.call("POST", "/v1/communications", nowhere)
    say: Json = {"id": "say", "send": {"communicationId": "nowhere"}, "next": "bye"}

    async def turn(number: int) -> None:
        own = f"failing-{number}"
        rule = {"failureRate": 0.5, "minimum": 2, "window": "30m"}
        await ground.journey(own, say, BYE, autoPause=rule)
        await ground.enroll(own, crowd(own, 8))
        is_paused = "SELECT EXISTS (SELECT FROM sends_pauses WHERE journey_id = $1)"
        await eventually(lambda: ground.rows.fetchval(is_paused, own), within=2 * ground.within)
        await ground.enroll(own, crowd(f"{own}-parked", 1))
        await ground.field.call("POST", "/v1/sendsPauses:resume", {"journeyId": own})
        # Whose sends go on failing, and are paused again.
        await ground.field.call("DELETE", f"/v1/journeys/{own}?force=true", {})

    await ground.turn_after_turn("", turn)


async def throttling(ground: Ground) -> None:
    """A provider that wants nothing for a second, of messages and of calls."""
    rates = [
        RATE,
        {"channel": "webhook", "ratePerSecond": 200, "burst": 50},
    ]
    await ground.field.call("PATCH", "/v1/projects/default", {"settings": {"channelRates": rates}})

    async def turn(number: int) -> None:
        mode = Mode(kind="fail", status=429, retry_after="1", times=3)
        await ground.field.provider.set_mode(mode)
        await ground.field.sign_up(crowd(f"throttled-{number}", 6))

    await ground.turn_after_turn("", turn)


async def renaming(ground: Ground) -> None:
    """A step that has called is called something else afterwards."""
    call: Json = {"id": "call", "webhook": {"url": ground.field.provider.step_url, "body": {}}, "next": "long"}

    async def turn(number: int) -> None:
        own = f"renamed-{number}"
        await ground.journey(own, call, LONG, BYE)
        await ground.enroll(own, crowd(own, 6))
        await ground.until("count(*) = 6 FROM executions WHERE journey_id = $1 AND step_id = 'long'", own)
        await ground.field.call("PATCH", f"/v1/journeys/{own}", {"steps": [{**call, "id": "called"}, LONG, BYE]})
        order = {"carry": "mapped", "stepMapping": [{"fromStepId": "call", "toStepId": "called"}]}
        shown = await ground.field.call("POST", f"/v1/journeys/{own}:previewCarry", order)
        await ground.publish(own, 2, {**order, "token": shown["token"]})

    await ground.turn_after_turn("", turn)


async def undecided(ground: Ground) -> None:
    """Entries that wait for a journey that is archived, and such as wait on, since their data may be late; and people
    who become one while entries of both wait.
    """
    body = {"id": "latecomers", "name": "Latecomers", "predicate": belongs("latecomers")}
    await ground.field.call("POST", "/v1/audiences", body)

    async def turn(number: int) -> None:
        closed, late, twice = (f"{what}-{number}" for what in ("closed", "late", "twice"))
        one, other = f"one-{number}", f"other-{number}"
        await ground.people([one, other], {})
        for own, people, more in (
            (closed, crowd(closed, 3), {}),
            (late, crowd(late, 3), {"audienceId": "latecomers", "entryGrace": "12s"}),
            (twice, [one, other], {}),
        ):
            came = {"eventName": own, "entryKeyPath": "order"}
            await ground.journey(own, NAP, BYE, whilePaused="hold", entryCondition=came, **more)
            await ground.field.call("POST", f"/v1/journeys/{own}:pause", {})
            events = [
                {"eventId": f"{own}/{who}", "name": own, "subjectId": who, "properties": {"order": "1"}}
                for who in people
            ]
            await ground.field.call("POST", "/v1/events", {"events": events})
            await ground.until("count(*) = $2 FROM held_entries WHERE journey_id = $1", own, len(people))
        await ground.field.call("POST", f"/v1/journeys/{closed}:archive", {"onArchive": "finish"})
        await ground.field.call("POST", f"/v1/journeys/{late}:resume", {})
        await ground.field.call("POST", f"/v1/subjects/{one}:merge", {"intoSubjectId": other})
        await ground.field.call("POST", f"/v1/journeys/{twice}:resume", {})

    await ground.turn_after_turn("", turn)
    ground.rests.append("NOT EXISTS (SELECT FROM held_entries)")


async def broken(ground: Ground) -> None:
    """A journey whose audience is gone."""

    async def turn(number: int) -> None:
        own = f"broken-{number}"
        await ground.field.call("POST", "/v1/audiences", {"id": own, "name": "Gone", "predicate": belongs(own)})
        await ground.journey(own, NAP, BYE, audienceId=own)
        await ground.field.call("DELETE", f"/v1/audiences/{own}", {})
        await ground.field.call("POST", f"/v1/journeys/{own}:enroll", {"subjectIds": crowd(own, 2)})

    await ground.turn_after_turn("", turn)


async def returning(ground: Ground) -> None:
    """Somebody who was forgotten comes back, and is let in again."""
    await ground.journey("open", NAP, BYE)

    async def turn(number: int) -> None:
        who = f"returning-{number}"
        await ground.field.call("PUT", f"/v1/subjects/{who}", {"attributes": {}})  # whose answer says who it is
        await ground.enroll("open", [who], stays=False)
        erasure = await ground.field.call("POST", f"/v1/subjects/{who}:forget", {})
        if not erasure:
            return  # its answer is erased as well
        is_done = "SELECT ended_at IS NOT NULL FROM erasures WHERE erasure_id = $1"
        await eventually(lambda: ground.rows.fetchval(is_done, erasure["id"]), within=2 * ground.within)
        await ground.field.call("POST", "/v1/journeys/open:enroll", {"subjectIds": [who]})
        await ground.field.call("POST", f"/v1/subjects/{who}:liftTombstone", {})

    await ground.turn_after_turn("", turn)


async def clearing(ground: Ground) -> None:
    """A project that keeps its events for a day."""
    addresses, keys = ground.field.stack.addresses, ground.field.stack.keys

    async def turn(number: int) -> None:
        settings = {"eventRetention": "1d"}
        body = {"id": f"brief-{number}", "name": "Brief", "settings": settings}
        headers = {"X-Api-Key": keys.operator}
        async with httpx.AsyncClient(base_url=addresses.http, headers=headers, timeout=10) as operator:
            answer = await operator.post("/v1/projects", json=body)  # whose key is told once only
        if answer.status_code != 200:
            return
        long_ago = (datetime.now(UTC) - timedelta(days=10)).isoformat().replace("+00:00", "Z")
        event = {"eventId": "old", "name": "old", "subjectId": "somebody", "occurTime": long_ago}
        await ground.field.call(
            "POST", "/v1/events", {"events": [event]}, headers={"X-Api-Key": answer.json()["secret"]}
        )

    await ground.turn_after_turn("", turn)


async def unreadable(ground: Ground) -> None:
    """Rows that nobody can work through: an entry of the inbox that contradicts itself, a start under an id that
    another execution has, and one of nobody. What is set aside is taken away again.
    """
    await ground.journey("quiet", LONG, BYE)

    def is_met(function: str) -> bool:
        return not any(name.startswith(f"{function} ") for name in ground.faults.left([""]))

    async def turn(number: int) -> None:
        own = crowd(f"riddle-{number}", 2)
        await ground.enroll("quiet", own)
        first, second = await ground.rows.fetch(
            "SELECT e.* FROM executions AS e JOIN subjects AS s USING (project_no, bucket, subject_no)"
            " WHERE subject_id = ANY ($1)",
            own,
        )
        whose = first["project_no"], first["bucket"], first["subject_no"]
        both = [first["execution_id"], second["execution_id"]]
        await ground.until("NOT EXISTS (SELECT FROM outbox WHERE execution_id = ANY ($1))", both)
        await ground.rows.execute(_TOLD, *whose, uuid4(), "poke", first["workflow_id"])
        await ground.until(
            "NOT EXISTS (SELECT FROM inbox WHERE (project_no, bucket, subject_no) = ($1, $2, $3))", *whose
        )
        await ground.rows.execute(_HAPPENED, *whose)
        await eventually(lambda: is_met("orchestrator.storage.inbox.failed"), within=ground.within)
        await ground.rows.execute("DELETE FROM inbox WHERE cardinality(name_nos) <> cardinality(event_nos)")
        execution_id = first["execution_id"]
        await ground.rows.execute(_TOLD, *whose, execution_id, "start", second["workflow_id"])
        is_buried = "SELECT EXISTS (SELECT FROM outbox_dead WHERE execution_id = $1)"
        await eventually(lambda: ground.rows.fetchval(is_buried, execution_id), within=ground.within)
        await ground.rows.execute("DELETE FROM outbox_dead WHERE execution_id = $1", execution_id)

    await ground.turn_after_turn("", turn)


async def uniting(ground: Ground) -> None:
    """People of whom one listens, and one has paid, become one; and some pay before they are let in."""
    hear: Json = {"id": "hear", "waitFor": {"event": {"eventName": "never"}, "timeout": "30d", "otherwise": "bye"}}
    goal = {"eventName": "paid", "window": "7d"}
    await ground.journey("hearing", {**hear, "next": "bye"}, BYE, goal=goal)
    await ground.journey("arriving", NAP, BYE, goal=goal, entryCondition={"eventName": "arrive"})

    async def turn(number: int) -> None:
        former, latter, payer = (f"{what}-{number}" for what in ("former", "latter", "payer"))
        await ground.people([former, latter], {})
        await ground.enroll("lasting", [former], stays=False)
        await ground.enroll("hearing", [latter])
        await ground.happen("paid", [former])
        listed = f"listed-{number}"
        await ground.field.call("POST", "/v1/segments", {"id": listed, "name": "Listed", "kind": "static"})
        members = {"subjectIds": [former]}
        await ground.field.call("POST", f"/v1/segments/{listed}/members:add", members)
        await ground.field.call("POST", f"/v1/subjects/{former}:merge", {"intoSubjectId": latter})
        await ground.field.call("DELETE", f"/v1/segments/{listed}", {})
        now = datetime.now(UTC)
        events = [
            {
                "eventId": f"{name}/{payer}",
                "name": name,
                "subjectId": payer,
                "occurTime": (now - timedelta(seconds=ago)).isoformat().replace("+00:00", "Z"),
            }
            for name, ago in (("arrive", 2), ("paid", 1))
        ]
        await ground.field.call("POST", "/v1/events", {"events": events})
        await ground.enroll("hearing", [f"late-{number}"])
        await ground.happen("paid", [f"late-{number}"])

    await ground.turn_after_turn("", turn)


async def naming(ground: Ground) -> None:
    """Segments that journeys ask about have other rules."""

    async def turn(number: int) -> None:
        own = f"named-{number}"
        await ground.field.call("POST", "/v1/segments", {"id": own, "name": "Named", "rules": belongs(own)})
        arm = {"id": "in", "when": {"kind": "in_cohort", "cohortId": own}, "next": "bye"}
        await ground.journey(own, {"id": "ask", "branch": {"arms": [arm], "otherwise": "bye"}}, BYE)
        await ground.field.call("PATCH", f"/v1/segments/{own}", {"rules": belongs("somebody")})

    await ground.turn_after_turn("", turn)


async def queueing(ground: Ground) -> None:
    """Somebody who waits for their turn at a channel wants nothing more."""
    say: Json = {"id": "say", "send": {"communicationId": "logged"}, "next": "bye"}
    await ground.journey("queued", say, BYE)

    async def turn(number: int) -> None:
        people = crowd(f"queuer-{number}", 30)
        await ground.enroll("queued", people)
        change = {"changes": [{"channel": "log", "category": "marketing", "optedOut": True}]}
        await ground.field.call("PATCH", f"/v1/subjects/{people[-1]}/preferences", change)

    await ground.turn_after_turn("", turn, pause=8)


async def withdrawing(ground: Ground) -> None:
    """Somebody thinks better of a replay of refused entries, before it has begun or when it is over."""

    async def turn(number: int) -> None:
        own = f"withdrawn-{number}"
        await ground.journey(own, NAP, BYE, entryCondition={"eventName": own})
        await ground.field.call("POST", f"/v1/journeys/{own}:pause", {})
        await ground.happen(own, crowd(own, 3))
        await ground.until("count(*) = 3 FROM refused_entries WHERE journey_id = $1", own)
        await ground.field.call("POST", f"/v1/journeys/{own}:resume", {})
        asked = {"reason": "journey_paused", "atMost": 3}
        answer = await ground.field.call("POST", f"/v1/journeys/{own}/refusedEntries:replay", asked)
        with contextlib.suppress(AssertionError):
            await ground.field.call("POST", f"/v1/entryReplays/{answer['replay']['id']}:cancel", {})

    await ground.turn_after_turn("", turn)


async def reporting(ground: Ground) -> None:
    """A provider says what became of messages that it had taken."""

    async def turn(number: int) -> None:
        await ground.field.sign_up(crowd(f"reported-{number}", 2))
        taken = [receipt.key for receipt in ground.field.provider.accepted() if receipt.subject_id]
        reports = [{"kind": "delivered", "idempotencyKey": key} for key in taken[-3:]]
        if reports:
            await ground.field.call("POST", "/v1/deliveries", {"reports": reports})

    await ground.turn_after_turn("", turn)


#: What processes say of rows that nobody can work through (`unreadable`).
SAID_OF_THEM = frozenset(
    {
        "entries of a subject cannot be worked through",
        "temporal refuses a notice for good",
        "a workflow id belongs to another enrollment",
    }
)

SCENARIOS = (
    failing,
    throttling,
    renaming,
    undecided,
    broken,
    returning,
    clearing,
    unreadable,
    uniting,
    naming,
    queueing,
    withdrawing,
    reporting,
)
