"""What executions live through: each kind of step with each of its outcomes, and each way to be woken, moved or ended.

A name is that of its history for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.application import (
    carry_previews,
    enrollment_jobs,
    journeys,
    lifecycle,
    merging,
    preferences,
    publishing,
    segments,
    sends_pauses,
)
from orchestrator.application.journeys import Changes
from orchestrator.application.publishing import Confirmed
from orchestrator.application.segment_rules import RuleBook
from orchestrator.application.versions import Versions
from orchestrator.domain.carrying import CarryMode
from orchestrator.domain.journey import OnArchive
from tests.eventually import eventually
from tests.integration.journey_world import ANY_STATE
from tests.provider.wire import response
from tests.replay.stage import ASLEEP_NOW, RECEIVER, SECRET, Happening, Json, Life, Scene, make_segment
from workers.channels.channel import ChannelUnavailable, Refused

BYE: Json = {"id": "bye", "exit": {"reason": "finished"}}
SORRY: Json = {"id": "sorry", "exit": {"reason": "otherwise"}}
EVER = {"type": "ever"}


def send(step_id: str = "hello", to: str = "bye", communication_id: str = "welcome", **more: Any) -> Json:
    return {"id": step_id, "send": {"communicationId": communication_id, **more}, "next": to}


def three_sends(to: str, communication_id: str = "welcome") -> list[Json]:
    return [
        send("one", "two", communication_id),
        send("two", "three", communication_id),
        send("three", to, communication_id),
    ]


def wait(duration: str, step_id: str = "pause", to: str = "bye") -> Json:
    return {"id": step_id, "wait": {"duration": duration}, "next": to}


def wait_for(condition: Json, timeout: str | None = "30d") -> list[Json]:
    ends = {} if timeout is None else {"timeout": timeout, "otherwise": "sorry"}
    return [{"id": "await", "waitFor": {**condition, **ends}, "next": "bye"}, BYE, *([SORRY] if timeout else [])]


def call(**more: Any) -> list[Json]:
    return [{"id": "call", "webhook": {"url": RECEIVER, "otherwise": "sorry", **more}, "next": "bye"}, BYE, SORRY]


def asks(field_path: str, operator: str, value: Any = None) -> Json:
    leaf = {"kind": "attribute", "fieldPath": field_path, "operator": operator}
    return leaf if value is None else leaf | {"value": value}


def branch(when: Json) -> list[Json]:
    arms = [{"id": "so", "when": when, "next": "bye"}]
    return [{"id": "ask", "branch": {"arms": arms, "otherwise": "sorry"}}, BYE, SORRY]


def in_segment(segment_id: str) -> Json:
    return {"kind": "in_cohort", "cohortId": segment_id}


ARMS = [{"id": "a", "next": "pause"}, {"id": "b", "next": "pause"}]
PAID: Json = {"event": {"eventName": "paid"}}
HAS_PAID: Json = {"kind": "event_fired", "eventName": "paid", "window": EVER, "atLeast": 1}
MONTH = wait("30d")
AWAY = ChannelUnavailable("timeout", in_doubt=True)
BROKEN = ChannelUnavailable("refused", in_doubt=False)
NOT_NOW = ChannelUnavailable("503", in_doubt=False, retry_after=timedelta(minutes=5))
BUSY = response(429, b"", {"retry-after": "300"})


def each(*happenings: Happening) -> Happening:
    """One after the other."""

    async def happen(scene: Scene) -> None:
        for happening in happenings:
            await happening(scene)

    return happen


async def has_slept(scene: Scene) -> None:
    await scene.has_slept()


async def parks(scene: Scene) -> None:
    await scene.parks()


async def has_tried(scene: Scene) -> None:
    await scene.has_tried()


async def is_in_back_off(scene: Scene) -> None:
    await scene.is_in_back_off()


async def cancel(scene: Scene) -> None:
    await scene.cancel()


async def is_canceled_in_a_hurry(scene: Scene) -> None:
    await scene.is_canceled_in_a_hurry()


async def let_go(scene: Scene) -> None:
    scene.let_go()


async def poke(scene: Scene) -> None:
    await scene.poke()


async def opt_out(scene: Scene) -> None:
    await scene.opt_out()


async def pays(scene: Scene) -> None:
    await scene.happen("paid")


def knows(*, time_zone: str | None = None, **attributes: Any) -> Happening:
    async def happen(scene: Scene) -> None:
        await scene.know(time_zone=time_zone, **attributes)

    return happen


async def suppress(scene: Scene) -> None:
    await scene.world.do(preferences.suppress, SECRET, scene.name, channel="log", reason="bounced")


async def pause_sends(scene: Scene) -> None:
    await scene.world.do(sends_pauses.pause, scene.name)


async def resume_sends(scene: Scene) -> None:
    await scene.world.do(sends_pauses.resume, scene.name)


async def pause_journey(scene: Scene) -> None:
    await scene.world.do(lifecycle.pause, scene.name, ANY_STATE)


async def archive(scene: Scene) -> None:
    await scene.world.do(lifecycle.archive, scene.name, OnArchive.END, ANY_STATE)


async def delete_journey(scene: Scene) -> None:
    await scene.world.do(lifecycle.delete, scene.name, ANY_STATE, force=True)


async def delete_segment(scene: Scene) -> None:
    await scene.world.do(segments.delete, scene.name, ANY_STATE, force=True)


async def is_put_into_segment(scene: Scene) -> None:
    await scene.world.do(segments.add_members, scene.name, [scene.name])


async def merge(scene: Scene) -> None:
    await scene.world.subject(f"{scene.name}-survivor")
    await scene.world.do(merging.merge, SECRET, RuleBook(), scene.name, into=f"{scene.name}-survivor")


async def grows_old(scene: Scene) -> None:
    """It has been under way for two days."""
    execution_id, _ = await scene.execution()
    async with scene.running.transactions.write(None) as conn:
        await conn.execute(
            "UPDATE executions SET started_at = started_at - interval '2 days' WHERE execution_id = $1", execution_id
        )


def carried(*steps: Json) -> Happening:
    """These steps are published, and who can go over does."""

    async def carry(scene: Scene) -> None:
        await scene.world.do(journeys.update, scene.name, Changes(definition={"steps": list(steps)}), ANY_STATE)
        shown = await scene.world.look(carry_previews.preview, Versions(), scene.name, CarryMode.COMPATIBLE, ())
        confirmed = Confirmed(mode=CarryMode.COMPATIBLE, pairs=(), token=shown.token)
        await scene.world.do(publishing.publish, scene.name, ANY_STATE, carry=confirmed)

    return carry


async def is_triggered(scene: Scene) -> None:
    await scene.happen(f"{scene.name}-happened", plan="pro")


async def crowd_is_enrolled(scene: Scene) -> None:
    await scene.world.subject(scene.name)
    await is_put_into_segment(scene)
    await scene.world.do(enrollment_jobs.create, job_id=scene.name, journey_id=scene.name, segment_id=scene.name)


async def database_holds_it_up(scene: Scene) -> None:
    """Somebody holds the subject for longer than a local activity may take."""
    await scene.stands("pause")
    async with scene.running.transactions.write(None) as conn:
        await conn.execute(
            "SELECT FROM subjects WHERE project_no = $1 AND subject_id = $2 FOR UPDATE", scene.project_no, scene.name
        )
        handle = await scene.handle()

        async def is_asked_by_a_regular_activity() -> bool:
            history = await handle.fetch_history()
            return any(
                event.activity_task_scheduled_event_attributes.activity_type.name == "advance"
                for event in history.events
            )

        await eventually(is_asked_by_a_regular_activity, within=60)


SENDS: Mapping[str, Life] = {
    "send-accepted": Life(steps=[send(), BYE]),
    "send-refused": Life(steps=[send(), BYE], answers=[Refused(reason="bounced")]),
    "send-tried-three-times": Life(steps=[send(), BYE], answers=[AWAY, AWAY]),
    "send-unknown": Life(steps=[send(communication_id="keyless"), BYE], answers=[AWAY]),
    "send-opted-out": Life(steps=[wait("2s", to="hello"), send(), BYE], during=each(has_slept, opt_out)),
    "send-suppressed": Life(steps=[wait("2s", to="hello"), send(), BYE], during=each(has_slept, suppress)),
    "send-suppressed-exits": Life(
        steps=[wait("2s", to="hello"), send(onBlocked="exit"), BYE], during=each(has_slept, suppress)
    ),
    "send-capped": Life(steps=[*three_sends("four"), send("four"), BYE]),
    "send-capped-exits": Life(steps=[*three_sends("four"), send("four", onBlocked="exit"), BYE]),
    "send-template-fails": Life(steps=[send(communication_id="broken"), BYE]),
    "send-in-quiet-hours": Life(
        steps=[send(), BYE], before=knows(time_zone=ASLEEP_NOW), during=each(parks, has_slept), ends=False
    ),
    "send-in-quiet-hours-moves": Life(
        steps=[send(), BYE], before=knows(time_zone=ASLEEP_NOW), during=each(parks, has_slept, knows(time_zone="UTC"))
    ),
    "send-waited-too-long": Life(
        steps=[send(onBlocked="wait", waitAtMost="1s"), BYE], before=knows(time_zone=ASLEEP_NOW)
    ),
    "send-waits-for-its-turn": Life(steps=[*three_sends("bye", "keyless"), BYE]),
    "send-held-and-resumed": Life(steps=[send(), BYE], before=pause_sends, during=each(parks, has_slept, resume_sends)),
    "send-held-and-canceled": Life(steps=[send(), BYE], before=pause_sends, during=each(parks, has_slept, cancel)),
    "send-poked-in-back-off": Life(steps=[send(), BYE], answers=[BROKEN] * 3, during=each(is_in_back_off, poke)),
    "send-poked-again-and-again": Life(
        steps=[send(), BYE], answers=[BROKEN] * 6, during=each(is_in_back_off, *[poke] * 6)
    ),
    "send-canceled-in-back-off": Life(steps=[send(), BYE], answers=[NOT_NOW], during=each(is_in_back_off, cancel)),
    "send-canceled-in-temporal": Life(
        steps=[send(), BYE], held=True, during=each(is_canceled_in_a_hurry, let_go), canceled=True
    ),
    "send-canceled-in-temporal-in-vain": Life(
        steps=[send(), BYE], answers=[BROKEN], held=True, during=each(is_canceled_in_a_hurry, let_go), canceled=True
    ),
    "send-opted-out-in-back-off": Life(
        steps=[send(), BYE], answers=[NOT_NOW], during=each(is_in_back_off, opt_out, poke)
    ),
    "send-wait-send": Life(steps=[send("hello", "pause"), wait("1s", to="again"), send("again"), BYE]),
}

WAITS: Mapping[str, Life] = {
    "wait-for-a-second": Life(steps=[wait("1s"), BYE]),
    "wait-twice": Life(steps=[wait("1s", to="again"), wait("1s", "again"), BYE]),
    "asleep-for-a-month": Life(steps=[MONTH, BYE], ends=False),
    "asleep-and-poked": Life(steps=[wait("3s"), BYE], during=each(has_slept, *[poke] * 5)),
    "asleep-and-canceled": Life(steps=[MONTH, BYE], during=each(has_slept, cancel)),
    "asleep-until-the-morning": Life(
        steps=[{"id": "pause", "wait": {"timeOfDay": {"time": "09:30"}}, "next": "bye"}, BYE], ends=False
    ),
    "asleep-until-a-date": Life(
        steps=[{"id": "pause", "wait": {"date": {"fieldPath": "due"}}, "next": "bye"}, BYE],
        before=knows(due="2126-01-01T00:00:00Z"),
        ends=False,
    ),
    "asleep-until-a-date-that-moves": Life(
        steps=[{"id": "pause", "wait": {"date": {"fieldPath": "due"}}, "next": "bye"}, BYE],
        before=knows(due="2126-01-01T00:00:00Z"),
        during=each(has_slept, knows(due=datetime(2026, 1, 1, tzinfo=UTC).isoformat())),
    ),
    "no-date-to-wait-for": Life(steps=[{"id": "pause", "wait": {"date": {"fieldPath": "due"}}, "next": "bye"}, BYE]),
    "waited-for-and-came": Life(steps=wait_for(PAID), during=each(has_slept, pays)),
    "waited-for-in-vain": Life(steps=wait_for(PAID, "1s")),
    "waited-for-without-end": Life(steps=wait_for(PAID, None), ends=False),
    "waited-for-what-was-so": Life(steps=wait_for({"when": asks("plan", "exists")}), before=knows(plan="pro")),
    "waited-for-what-came-to-be-so": Life(
        steps=wait_for({"when": asks("plan", "exists")}), during=each(has_slept, knows(plan="pro"))
    ),
    "waited-for-a-change": Life(
        steps=wait_for({"changed": {"fieldPath": "plan"}}),
        before=knows(plan="free"),
        during=each(has_slept, knows(plan="free", name="Ann"), knows(plan="pro")),
    ),
    "waited-for-a-segment": Life(
        steps=wait_for({"when": in_segment("waited-for-a-segment")}),
        segment=True,
        during=each(has_slept, is_put_into_segment),
    ),
    "waited-through-much": Life(
        steps=wait_for({"when": HAS_PAID | {"atLeast": 4}}), during=each(has_slept, *[pays] * 4)
    ),
    "waited-for-and-canceled": Life(steps=wait_for(PAID), during=each(has_slept, cancel)),
}

CHOICES: Mapping[str, Life] = {
    "branch-by-an-arm": Life(steps=branch(asks("plan", "exists")), before=knows(plan="pro")),
    "branch-otherwise": Life(steps=branch(asks("plan", "exists"))),
    "branch-parked-and-mended": Life(
        steps=branch(in_segment("branch-parked-and-mended")),
        segment=True,
        before=delete_segment,
        during=each(parks, has_slept, make_segment, poke),
    ),
    "branch-parked-and-canceled": Life(
        steps=branch(in_segment("branch-parked-and-canceled")),
        segment=True,
        before=delete_segment,
        during=each(parks, has_slept, cancel),
    ),
    "split": Life(
        steps=[
            {"id": "split", "split": {"arms": [{"id": a, "weight": 1, "next": "pause"} for a in "ab"]}},
            wait("1s"),
            BYE,
        ]
    ),
    "arm-chosen": Life(steps=[{"id": "choose", "adaptiveBranch": {"arms": ARMS}}, wait("1s"), BYE], goal="paid"),
    "arm-chosen-for-a-visit": Life(
        steps=[{"id": "choose", "adaptiveBranch": {"arms": ARMS, "stickiness": "visit"}}, wait("1s"), BYE], goal="paid"
    ),
    "best-action-chosen": Life(
        steps=[{"id": "choose", "nbaDecision": {"arms": ARMS, "context": ["plan"]}}, wait("1s"), BYE],
        goal="paid",
        before=knows(plan="pro"),
    ),
}

EFFECTS: Mapping[str, Life] = {
    "subject-changed": Life(
        steps=[{"id": "mark", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "bye"}, BYE]
    ),
    "subject-not-changed": Life(
        steps=[
            {
                "id": "mark",
                "updateSubject": {"attributes": {"plan": "{{ 1 | divided_by: subject.attributes.none }}"}},
                "next": "bye",
            },
            BYE,
        ]
    ),
    "event-emitted": Life(steps=[{"id": "tell", "emitEvent": {"eventName": "upgraded"}, "next": "bye"}, BYE]),
    "webhook-answered": Life(steps=call(), received=[response(200, b'{"score": 7}')]),
    "webhook-taken-without-a-word": Life(steps=call(), received=[response(204)]),
    "webhook-answered-nonsense": Life(steps=call(), received=[response(200, b"<html>")]),
    "webhook-refused": Life(steps=call(), received=[response(422)]),
    "webhook-tried-twice": Life(
        steps=call(), received=[response(503, b"", {"retry-after": "0"}), response(200, b"{}")]
    ),
    "webhook-given-up": Life(steps=call(retryFor="30s"), received=[BUSY]),
    "webhook-forbidden": Life(
        steps=[{**call()[0], "webhook": {"url": "http://10.0.0.1/", "otherwise": "sorry"}}, BYE, SORRY]
    ),
    "webhook-canceled-in-back-off": Life(steps=call(), received=[BUSY], during=each(is_in_back_off, cancel)),
}

ENDS: Mapping[str, Life] = {
    "exit-only": Life(steps=[BYE]),
    "exited-by-an-event": Life(
        steps=[MONTH, BYE],
        definition={"exitRules": [{"id": "paid", "event": {"eventName": "paid"}}]},
        during=each(has_slept, pays),
    ),
    "exited-by-a-predicate": Life(
        steps=[MONTH, BYE],
        definition={"exitRules": [{"id": "pro", "when": asks("plan", "equals", "pro")}]},
        during=each(has_slept, knows(plan="pro")),
    ),
    "exited-at-once": Life(
        steps=[MONTH, BYE],
        definition={"exitRules": [{"id": "pro", "when": asks("plan", "equals", "pro")}]},
        before=knows(plan="pro"),
    ),
    "exited-in-back-off": Life(
        steps=[send(), MONTH, BYE],
        definition={"exitRules": [{"id": "paid", "event": {"eventName": "paid"}}]},
        answers=[NOT_NOW],
        during=each(is_in_back_off, pays),
    ),
    "goal-reached": Life(
        steps=[MONTH, BYE], definition={"exitOnGoal": True}, goal="paid", during=each(has_slept, pays)
    ),
    "expired": Life(
        steps=wait_for(PAID, None), definition={"maxDurationDays": 1}, during=each(has_slept, grows_old, poke)
    ),
    "archived": Life(steps=[MONTH, BYE], during=each(has_slept, archive)),
    "journey-deleted": Life(steps=[MONTH, BYE], during=each(has_slept, delete_journey)),
    "journey-paused": Life(steps=[wait("3s"), BYE], during=each(has_slept, pause_journey)),
}

MOVES: Mapping[str, Life] = {
    "carried-asleep": Life(steps=[MONTH, BYE], during=each(has_slept, carried(wait("1s", to="hello"), send(), BYE))),
    "carried-waiting": Life(
        steps=wait_for(PAID),
        during=each(
            has_slept,
            carried({**wait_for(PAID)[0], "next": "hello"}, send(), BYE, SORRY),
            pays,
        ),
    ),
    "carried-in-back-off": Life(
        steps=[send(), BYE],
        answers=[AWAY, AWAY],
        during=each(has_tried, carried(send(to="again"), send("again"), BYE)),
    ),
    "carried-held": Life(
        steps=[send(), BYE],
        before=pause_sends,
        during=each(parks, has_slept, carried(send(to="again"), send("again"), BYE), resume_sends),
    ),
    "merged-asleep": Life(steps=[wait("3s", to="hello"), send(), BYE], during=each(has_slept, merge)),
    "triggered-by-an-event": Life(
        steps=[send(), BYE],
        definition={"entryCondition": {"eventName": "triggered-by-an-event-happened"}},
        enters=is_triggered,
    ),
    "enrolled-by-a-job": Life(steps=[wait("1s", to="hello"), send(), BYE], segment=True, enters=crowd_is_enrolled),
    "database-holds-it-up": Life(steps=[wait("2s"), BYE], during=database_holds_it_up),
    "one-thing-after-the-other": Life(
        steps=[
            {"id": "mark", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "hello"},
            send(to="pause"),
            wait("1s", to="ask"),
            {
                "id": "ask",
                "branch": {
                    "arms": [{"id": "so", "when": asks("plan", "exists"), "next": "choose"}],
                    "otherwise": "bye",
                },
            },
            {"id": "choose", "adaptiveBranch": {"arms": [{"id": a, "next": "tell"} for a in "ab"]}},
            {"id": "tell", "emitEvent": {"eventName": "upgraded"}, "next": "call"},
            *call(otherwise="bye")[:1],
            BYE,
        ],
        goal="paid",
        received=[response(503, b"", {"retry-after": "0"}), response(200, b"{}")],
    ),
}

LIVES: Mapping[str, Life] = {**SENDS, **WAITS, **CHOICES, **EFFECTS, **ENDS, **MOVES}

#: Those that are lived once more with every payload encrypted: failures, markers, search attributes, signals, results.
ENCRYPTED_LIVES = (
    "send-accepted", "send-tried-three-times", "send-poked-in-back-off", "send-held-and-resumed",
    "asleep-for-a-month", "asleep-and-canceled", "waited-for-and-came", "waited-for-in-vain",
    "branch-parked-and-mended", "arm-chosen", "webhook-tried-twice", "subject-changed", "carried-asleep",
    "database-holds-it-up",
)  # fmt: skip

#: Those that are lived once more where Temporal wants a new run after a few events.
CONTINUED_LIVES = (
    "send-wait-send", "send-tried-three-times", "send-poked-again-and-again", "send-waits-for-its-turn",
    "asleep-and-poked", "waited-through-much", "asleep-until-a-date-that-moves", "branch-parked-and-mended",
    "one-thing-after-the-other", "carried-asleep", "carried-held",
)  # fmt: skip
