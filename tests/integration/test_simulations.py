"""What a journey would do: read in a transaction that cannot write, decided by production's code, told in full."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from asyncpg import ReadOnlySQLTransactionError

from orchestrator.api.handlers.journeys import JourneyHandlers
from orchestrator.application import preferences, publishing, sends_pauses, simulation_traces
from orchestrator.application.journeys import Changes, update
from orchestrator.application.simulation_questions import Question, Supposed
from orchestrator.application.simulations import Simulations
from orchestrator.application.versions import Versions
from orchestrator.domain.preferences import PreferenceChange
from orchestrator.domain.scope import Role
from orchestrator.storage.pool import API_ROLE, WORKER_ROLE, open_pool
from tests.integration.crowd import Crowd
from tests.integration.journey_world import ANY_STATE, IN_VIP, World
from tests.integration.road import BYE, LATE, MONTH, Road, event, wait_for
from tests.integration.served import Refused, Served

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from orchestrator.storage.outbox import Notice

HELLO = {"id": "hello", "send": {"communicationId": "letter"}, "next": "pause"}
PRO = {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"}
BOUGHT = {"kind": "event_fired", "eventName": "purchase", "window": {"type": "last", "duration": "2d"}, "atLeast": 2}
ASK = {
    "id": "ask",
    "branch": {
        "arms": [
            {"id": "vip", "when": IN_VIP, "next": "bye"},
            {"id": "bought", "when": {"kind": "and", "clauses": [PRO, BOUGHT]}, "next": "late"},
        ],
        "otherwise": "bye",
    },
}
BODY = (
    "{% if subject.attributes.plan == 'pro' %}Dear {{ subject.attributes.name }}{% else %}Hi{% endif %} {{ entry.n }}"
)


class Stage:
    """A road, and a server that simulates what travels there."""

    def __init__(self, road: Road, served: Served, keys: dict[Role, str]) -> None:
        self.road = road
        self.served = served
        self.keys = keys

    async def simulate(
        self, subject_id: str | None = "ann", *, role: Role = Role.EDITOR, journey_id: str = "welcome", **asked: Any
    ) -> dict[str, Any]:
        if subject_id is not None:
            asked["subjectId"] = subject_id
        return await self.served.call(self.keys[role], "SimulateJourney", journeyId=journey_id, **asked)

    async def cap(self) -> None:
        """One message a week."""
        await self.road.owner.execute(
            "UPDATE projects SET settings = settings || $2::jsonb WHERE project_no = $1",
            self.road.crowd.project_no,
            json.dumps({"frequencyCaps": [{"limit": 1, "window": "7d"}]}),
        )

    async def trace(self, subject_id: str | None = "ann", **asked: Any) -> dict[str, Any]:
        simulation: dict[str, Any] = (await self.simulate(subject_id, **asked))["simulation"]
        return simulation


def passed(simulation: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    return [(step["stepId"], step.get("result"), step.get("reason")) for step in simulation["steps"]]


@pytest.fixture(scope="module")
async def stages(shared_database: str) -> AsyncIterator[Callable[[], Awaitable[Stage]]]:
    """Makes a stage in a project of its own."""

    async def deliver(told: Sequence[Notice]) -> None:
        raise AssertionError("nothing is told")

    owner = await asyncpg.connect(shared_database)
    api_pool = await open_pool(shared_database, role=API_ROLE, size=4, application_name="test-api")
    worker_pool = await open_pool(shared_database, role=WORKER_ROLE, size=4, application_name="test-worker")
    served = await Served.open(api_pool, JourneyHandlers(Versions(), deliver))
    numbers = count()

    async def make() -> Stage:
        world = await World.make(owner, api_pool, f"p{next(numbers)}")
        await world.furnish()
        await world.add_communication("letter", "marketing", body=BODY)
        road = Road(Crowd(world, worker_pool))
        await road.crowd.known(ann={"plan": "pro", "name": "Ann"}, bob={"plan": "free"})
        roles = (Role.EDITOR, Role.ADMIN, Role.OWNER)
        return Stage(road, served, {role: await served.admit(world.scope, role) for role in roles})

    yield make
    await worker_pool.close()
    await api_pool.close()
    await owner.close()


@pytest.fixture
async def stage(stages: Callable[[], Awaitable[Stage]]) -> Stage:
    return await stages()


async def test_a_draft_is_travelled_on_a_virtual_clock_and_everything_is_told(stage: Stage) -> None:
    await stage.road.crowd.world.draft(
        "welcome", {"steps": [HELLO, {**MONTH, "wait": {"duration": "3d"}, "next": "ask"}, ASK, BYE, LATE]}
    )
    events = [{"name": "purchase", "after": "25h"}, {"name": "purchase", "after": "50h"}]

    simulated = await stage.simulate(events=events)

    assert simulated["version"] == 0
    simulation = simulated["simulation"]
    assert passed(simulation) == [
        ("hello", "executed", None),
        ("pause", "executed", None),
        ("ask", "executed", "bought"),
        ("late", "executed", None),
    ]
    assert (simulation["stop"], simulation["outcome"], simulation["reason"]) == ("ended", "completed", "too_late")
    hello, pause, ask, _ = simulation["steps"]
    assert hello["message"]["body"] == "Dear ••• "
    assert [slept["why"] for slept in pause["sleeps"]] == ["wait"]
    vip, bought = ask["conditions"]
    assert (vip["armId"], vip["truth"]) == ("vip", False)
    assert bought["explanation"]["clauses"][0]["evidence"] == {"type": "string", "masked": True}
    assert bought["explanation"]["clauses"][1]["evidence"]["counted"] == 2
    assert [gate["gate"] for gate in simulation["entry"]["gates"]] == ["dates", "audience", "re_entry", "consent"]


async def test_nothing_is_written_and_nothing_could_be(stage: Stage) -> None:
    await stage.road.publish(HELLO, MONTH, BYE)
    await stage.road.crowd.settle()
    world = stage.road.crowd.world
    before = await _everything(world.owner)

    purchase = Supposed(name="purchase", document={}, at=None, after=timedelta(days=1), path="")
    question = Question(journey_id="welcome", subject_id="ann", supposed=[purchase], all_paths=True)
    await Simulations(Versions()).simulate(world.transactions, world.scope, question)

    assert await _everything(world.owner) == before
    transactions = world.transactions
    with pytest.raises(ReadOnlySQLTransactionError):
        async with transactions.snapshot(stage.road.crowd.project_no) as conn:
            await conn.execute("UPDATE projects SET name = 'other'")


async def test_a_subject_that_was_here_before_is_refused_and_can_be_followed_anyway(stage: Stage) -> None:
    await stage.road.publish(MONTH, BYE)
    await stage.road.enroll("ann")

    refused = await stage.trace()
    followed = await stage.trace(enterAnyway=True)

    assert (refused["stop"], refused["entry"]["refusal"], refused["steps"]) == ("not_entered", "re_entry", [])
    assert followed["entry"]["refusal"] == "re_entry"
    assert passed(followed) == [("pause", "executed", None), ("bye", "executed", None)]


async def test_given_attributes_are_nobodys_and_are_shown(stage: Stage) -> None:
    await stage.road.publish({**HELLO, "next": "ask"}, ASK, BYE, LATE)
    given = {"plan": "pro", "name": "Eve"}

    simulation = await stage.trace(None, subjectAttributes=given, timeZone="Europe/Berlin")

    assert "subjectId" not in simulation
    assert simulation["steps"][0]["message"]["body"] == "Dear Eve "
    plan = simulation["steps"][1]["conditions"][1]["explanation"]["clauses"][0]
    assert plan["evidence"] == {"type": "string", "value": "pro"}


async def test_what_is_supposed_to_change_attributes_and_segments_is_seen_when_it_does(stage: Stage) -> None:
    await stage.road.crowd.segment("buyers-lately", BOUGHT)
    lately = {"kind": "in_cohort", "cohortId": "buyers-lately"}
    await stage.road.publish(
        wait_for({"when": lately}) | {"next": "then"},
        {**wait_for({"changed": {"fieldPath": "plan"}}), "id": "then"},
        LATE,
        BYE,
    )
    events = [{"name": "purchase", "after": "1h"}, {"name": "purchase", "after": "2h"}]

    simulation = await stage.trace(events=events, changes=[{"attributes": {"plan": None}, "after": "3h"}])

    started = simulation["startedAt"]
    assert passed(simulation)[:2] == [("await", "executed", "came"), ("then", "executed", "came")]
    assert [_after(started, step["leftAt"]) for step in simulation["steps"][:2]] == [
        timedelta(hours=2),
        timedelta(hours=3),
    ]
    explanation = simulation["steps"][0]["conditions"][0]["explanation"]
    assert explanation["rules"]["evidence"]["counted"] == 2


async def test_an_event_that_starts_it_is_judged_and_counts_as_all_others(stage: Stage) -> None:
    contract = await stage.road.starts_on("order", entry_key_path="id")
    ordered = {"kind": "event_fired", "eventName": "order"}
    ask = {"id": "ask", "branch": {"arms": [{"id": "yes", "when": ordered, "next": "await"}], "otherwise": "bye"}}
    await stage.road.publish(ask, wait_for(event("paid", entryKeyPath="order")), BYE, LATE, triggerContractId=contract)
    paid = [{"name": "paid", "properties": {"order": number}, "after": f"{number}h"} for number in (1, 2)]

    simulation = await stage.trace(entry={"id": 2}, events=paid)
    without_key = await stage.trace(entry={}, events=paid)

    assert simulation["entry"]["kind"] == "event"
    assert passed(simulation) == [("ask", "executed", "yes"), ("await", "executed", "came"), ("bye", "executed", None)]
    assert _after(simulation["startedAt"], simulation["stoppedAt"]) == timedelta(hours=2)
    assert (without_key["stop"], without_key["entry"]["refusal"]) == ("not_entered", "entry_key_missing")


async def test_gates_hold_off_what_would_be_sent_and_only_owners_override_them(stage: Stage) -> None:
    world = stage.road.crowd.world
    await stage.road.publish(
        {**HELLO, "next": "again"}, {**HELLO, "id": "again", "next": "bye"}, BYE, holdout={"percent": 99}
    )
    await stage.road.owner.execute(
        'UPDATE projects SET settings = settings || \'{"frequencyCaps": [{"limit": 1, "window": "7d"}]}\''
    )
    everything: dict[str, Any] = {
        "overrides": ["holdout", "frequency_cap", "suppression", "opt_out"],
        "role": Role.OWNER,
    }

    held_out = await stage.trace()
    capped = await stage.trace(overrides=["holdout"], role=Role.OWNER)
    async with world.transactions.write(world.scope.project_no) as conn:
        await preferences.update(
            conn, world.scope.project_no, "ann", [PreferenceChange(channel="*", category="*", opted_out=True)]
        )
    opted_out = await stage.trace(overrides=["holdout"], role=Role.OWNER)
    open_ = await stage.trace(**everything)

    assert (held_out["stop"], held_out["heldOutBy"], held_out["steps"]) == ("held_out", "journey", [])
    assert passed(capped)[:2] == [("hello", "executed", None), ("again", "skipped", "frequency_cap")]
    assert opted_out["entry"]["refusal"] == "opted_out"
    assert passed(open_)[:2] == [("hello", "executed", None), ("again", "executed", None)]
    assert open_["overrides"] == ["opt_out", "suppression", "frequency_cap", "holdout"]
    for role in (Role.EDITOR, Role.ADMIN):
        with pytest.raises(Refused, match="ROLE_TOO_LOW"):
            await stage.trace(overrides=["holdout"], role=role)


async def test_messages_that_were_sent_count_for_caps(stage: Stage) -> None:
    await stage.road.publish({**HELLO, "next": "bye"}, BYE, reentry={"policy": "entry_key"})
    await stage.road.owner.execute(
        'UPDATE projects SET settings = settings || \'{"frequencyCaps": [{"limit": 1, "window": "7d"}]}\''
    )
    await stage.road.owner.execute(
        """
        INSERT INTO sends (project_no, bucket, subject_no, execution_id, seq, step_id, journey_id, version,
                           communication_id, content_revision, channel, category, state, attempt, reserved_at,
                           settled_at, in_doubt)
        SELECT project_no, bucket, subject_no, gen_random_uuid(), 1, 's', 'other', 1, 'letter', 1, 'log', 'marketing',
               'sent', 1, now() - interval '6 days', now() - interval '6 days', false
          FROM subjects WHERE project_no = $1 AND subject_id = 'ann'
        """,
        stage.road.crowd.project_no,
    )
    soon = (await stage.road.owner.fetchval("SELECT now() + interval '2 days'")).isoformat()

    assert passed(await stage.trace())[0] == ("hello", "skipped", "frequency_cap")
    assert passed(await stage.trace(startsAt=soon))[0] == ("hello", "executed", None)


async def test_a_template_that_gives_no_text_fails_its_send_as_it_would(stage: Stage) -> None:
    await stage.road.crowd.world.add_communication(
        "broken", "marketing", body="{{ 1 | divided_by: subject.attributes.n }}"
    )
    await stage.road.publish({"id": "hello", "send": {"communicationId": "broken"}, "next": "bye"}, BYE)

    simulation = await stage.trace(None, subjectAttributes={"n": 0})

    assert passed(simulation)[0] == ("hello", "failed", "template_value")
    assert simulation["steps"][0]["message"]["failure"] == "template_value"


CALL: dict[str, Any] = {
    "id": "call",
    "webhook": {
        "url": "https://example.com/{{ subject.attributes.name }}?plan={{ subject.attributes.plan }}",
        "body": {"name": {"$path": "name"}, "ask": "score"},
        "otherwise": "late",
    },
    "next": "good",
}
SCORED = {"kind": "attribute", "fieldPath": "$steps.call.score", "operator": "gte", "value": 5}
GOOD = {"id": "good", "branch": {"arms": [{"id": "yes", "when": SCORED, "next": "write"}], "otherwise": "bye"}}
WRITE = {
    "id": "write",
    "updateSubject": {
        "attributes": {"score": {"$path": "$steps.call.score"}, "note": "{{ steps.call.score }}!", "plan": None}
    },
    "next": "tell",
}
TELL = {
    "id": "tell",
    "emitEvent": {"eventName": "scored", "properties": {"note": "{{ subject.attributes.note }}", "by": "us"}},
    "next": "hello",
}


async def test_a_webhook_is_not_called_and_what_it_is_said_to_answer_is_read_written_told_and_sent(
    stage: Stage,
) -> None:
    await stage.road.crowd.world.add_communication(
        "score", "marketing", body="{{ steps.call.score }} {{ subject.attributes.score }}"
    )
    send = {"id": "hello", "send": {"communicationId": "score"}, "next": "await"}
    scored = event("scored", where={"kind": "attribute", "fieldPath": "note", "operator": "equals", "value": "7!"})
    await stage.road.publish(CALL, GOOD, WRITE, TELL, send, wait_for(scored), LATE, BYE)
    given: dict[str, Any] = {"answers": {"call": {"score": 7}}}

    masked = await stage.trace(**given)
    shown = await stage.trace(None, subjectAttributes={"plan": "a b", "name": "Eve/"}, **given)
    silent = await stage.trace()

    assert [step[0] for step in passed(masked)] == ["call", "good", "write", "tell", "hello", "await", "bye"]
    assert passed(masked)[5] == ("await", "executed", "came")
    call, _, write, tell, hello, *_ = masked["steps"]
    assert call["call"] == {
        "method": "post",
        "url": "https://example.com/•••?plan=•••",
        "body": {"name": "•••", "ask": "score"},
        "answered": True,
    }
    assert write["change"] == {"attributes": {"score": "•••", "note": "•••!", "plan": None}}
    assert tell["event"] == {"eventName": "scored", "properties": {"note": "•••", "by": "us"}}
    assert hello["message"]["body"] == "••• •••"
    assert shown["steps"][0]["call"]["url"] == "https://example.com/Eve%2F?plan=a%20b"
    assert shown["steps"][0]["call"]["body"] == {"name": "Eve/", "ask": "score"}
    assert shown["steps"][2]["change"] == {"attributes": {"score": 7, "note": "7!", "plan": None}}
    assert shown["steps"][4]["message"]["body"] == "7 7"
    assert passed(silent) == [("call", "executed", None), ("good", "executed", "otherwise"), ("bye", "executed", None)]
    assert silent["steps"][0]["call"]["answered"] is False
    known = await stage.road.owner.fetchval("SELECT attributes->>'score' FROM subjects WHERE subject_id = 'ann'")
    assert known is None


async def test_steps_that_cannot_be_filled_in_fail_as_they_would(stage: Stage) -> None:
    broken = "{{ 1 | divided_by: subject.attributes.n }}"
    await stage.road.publish(
        {"id": "write", "updateSubject": {"attributes": {"m": broken}}, "next": "large"},
        {"id": "large", "updateSubject": {"attributes": {"copy": {"$path": "long"}}}, "next": "tell"},
        {"id": "tell", "emitEvent": {"eventName": "told", "properties": {"m": broken}}, "next": "call"},
        {**CALL, "webhook": {**CALL["webhook"], "body": {"m": broken}}, "next": "bye"},
        LATE,
        BYE,
    )

    simulation = await stage.trace(None, subjectAttributes={"n": 0, "long": "x" * 40_000})

    assert passed(simulation) == [
        ("write", "failed", "template_value"),
        ("large", "failed", "too_large"),
        ("tell", "failed", "template_value"),
        ("call", "failed", "template_value"),
        ("late", "executed", None),
    ]
    assert [simulation["steps"][n][of] for n, of in enumerate(("change", "change", "event", "call"))] == [
        {}, {}, {"eventName": "told"}, {"method": "post", "answered": False},
    ]  # fmt: skip


async def test_a_step_that_takes_too_long_to_fill_in_is_where_it_is_cut_off(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation_traces, "MAX_SECONDS", 0.2)
    slow = "{% for n in (1..5000) %}{{ n }}{% endfor %}"
    attributes = {f"a{n}": f"{slow}{n}" for n in range(50)}
    write = {"id": "write", "updateSubject": {"attributes": attributes}, "next": "bye"}
    await stage.road.publish({**MONTH, "next": "write"}, write, BYE)

    simulation = await stage.trace()

    assert simulation["stop"] == "seconds"
    assert passed(simulation) == [("pause", "executed", None), ("write", None, None)]


async def test_an_event_that_the_first_step_lets_happen_is_later_than_the_entry(stage: Stage) -> None:
    await stage.road.publish({**TELL, "next": "pause"}, MONTH, BYE, exitRules=[{"id": "told", **event("scored")}])

    simulation = await stage.trace()

    assert (simulation["outcome"], simulation["reason"]) == ("exited", "told")
    assert passed(simulation) == [("tell", "executed", None), ("pause", None, None)]


async def send_long(stage: Stage, body: str, **attributes: Any) -> dict[str, Any]:
    """What is told of sending this to Ann, of whom these are known."""
    await stage.road.crowd.world.add_communication("long", "marketing", body=body)
    await stage.road.crowd.known(ann=attributes)
    await stage.road.publish({"id": "hello", "send": {"communicationId": "long"}, "next": "bye"}, BYE)
    simulation = await stage.trace()
    told: dict[str, Any] = simulation["steps"][0]
    return told


async def test_a_text_that_only_masks_make_too_long_is_sent_and_shown(stage: Stage) -> None:
    body = f"{{% for n in (1..8000) %}}{{{{ subject.attributes.n }}}}{'x' * 30}{{% endfor %}}"

    told = await send_long(stage, body, n=1)

    assert told["result"] == "executed"
    assert told["message"]["body"] == f"•••{'x' * 30}" * 8000


async def test_a_text_that_only_masks_make_short_enough_is_not_sent(stage: Stage) -> None:
    body = "{% for n in (1..5) %}{{ subject.attributes.note }}{% endfor %}"

    told = await send_long(stage, body, note="x" * 60_000)

    assert (told["result"], told["message"]["failure"]) == ("failed", "template_limit")


async def test_a_text_takes_the_way_that_it_takes_without_masks(stage: Stage) -> None:
    body = (
        "{% capture who %}{{ subject.attributes.name }}{% endcapture %}{% if who == 'Ann' %}Dear{% endif %} {{ who }}"
    )

    told = await send_long(stage, body, name="Ann")

    assert told["message"]["body"] == "Dear •••"


async def test_an_exit_rule_ends_it_where_it_stands_with_its_evidence(stage: Stage) -> None:
    await stage.road.publish(MONTH, BYE, exitRules=[{"id": "became-free", "when": {**PRO, "value": "free"}}])

    simulation = await stage.trace(changes=[{"attributes": {"plan": "free"}, "after": "1d"}])

    assert (simulation["outcome"], simulation["reason"]) == ("exited", "became-free")
    assert passed(simulation) == [("pause", None, None)]
    assert simulation["leftFor"]["explanation"]["truth"] is True


async def test_who_would_wait_for_ever_and_who_is_parked_are_left_standing(stage: Stage) -> None:
    await stage.road.publish(wait_for(event("paid"), timeout=None), BYE, LATE)
    waiting = await stage.trace()
    world = stage.road.crowd.world
    await stage.road.publish({**HELLO, "next": "bye"}, BYE, journey_id="other")
    await world.do(sends_pauses.pause, "other")

    parked = await stage.trace(journey_id="other")

    assert (waiting["stop"], passed(waiting)) == ("waits", [("await", None, None)])
    assert parked["stop"] == "looks"
    assert [(slept["why"], slept["parked"]) for slept in parked["steps"][0]["sleeps"]] == [("park", "sends_paused")]


async def test_an_answer_that_would_be_too_large_says_what_is_left_out(stage: Stage) -> None:
    await stage.road.crowd.world.add_communication("long", "marketing", body="x" * 32_000)
    many = {"kind": "or", "clauses": [{**PRO, "value": f"plan {n}"} for n in range(199)]}
    sends = [{"id": f"s{n}", "send": {"communicationId": "long"}, "next": f"s{n + 1}"} for n in range(40)]
    asks = [
        {"id": f"s{n}", "branch": {"arms": [{"id": "a", "when": many, "next": "bye"}], "otherwise": f"s{n + 1}"}}
        for n in range(40, 70)
    ]
    await stage.road.publish(*sends, *asks, {"id": "s70", "exit": {}}, BYE)

    simulation = await stage.trace()

    assert simulation["cuts"] == ["texts", "evidence"]
    told = ["body" in step["message"] for step in simulation["steps"][:40]]
    assert told == [True] * 32 + [False] * 8
    explained = ["explanation" in step["conditions"][0] for step in simulation["steps"][40:70]]
    assert explained == [True] * 25 + [False] * 5
    assert simulation["outcome"] == "completed"


async def test_all_paths_need_nobody(stage: Stage) -> None:
    await stage.road.publish(wait_for(event("paid")), BYE, LATE, exitRules=[{"id": "vip", "when": IN_VIP}])

    simulated = await stage.simulate(None, allPaths=True)

    assert "simulation" not in simulated
    assert [node["stepId"] for node in simulated["paths"]["nodes"]] == ["await", "late", "bye"]
    assert [(one["outcome"], one["reason"]) for one in simulated["paths"]["outcomes"]] == [
        ("completed", "too_late"),
        ("completed", "finished"),
        ("exited", "vip"),
    ]


async def test_a_draft_that_could_not_be_published_is_refused_with_every_fault(stage: Stage) -> None:
    steps = [{"id": "hello", "send": {"communicationId": "nothing"}, "next": "nowhere"}]
    await stage.road.crowd.world.draft("welcome", {"steps": steps})

    with pytest.raises(Refused) as refused:
        await stage.simulate()

    assert refused.value.reason == "INVALID_DEFINITION"
    assert refused.value.faults == [
        ("steps[0].send.communicationId", "COMMUNICATION_NOT_FOUND"),
        ("steps[0].next", "NEXT_NOT_FOUND"),
    ]


async def test_the_newest_version_is_taken_where_there_is_no_draft(stage: Stage) -> None:
    await stage.road.publish(MONTH, BYE)
    published = await stage.simulate()
    draft = Changes(definition={"steps": [BYE]})
    await stage.road.crowd.world.do(update, "welcome", draft, ANY_STATE)
    edited = await stage.simulate()
    await stage.road.crowd.world.do(publishing.publish, "welcome", ANY_STATE)
    again = await stage.simulate()

    assert [one["version"] for one in (published, edited, again)] == [1, 0, 2]
    assert [len(one["simulation"]["steps"]) for one in (published, edited, again)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("asked", "faults"),
    [
        ({"subjectId": "ann", "subjectAttributes": {}}, [("subjectAttributes", "INVALID_VALUE")]),
        ({}, [("subjectId", "REQUIRED")]),
        ({"subjectId": "ann", "timeZone": "UTC"}, [("timeZone", "INVALID_VALUE")]),
        ({"subjectAttributes": {}, "timeZone": "Mars/Olympus"}, [("timeZone", "INVALID_VALUE")]),
        (
            {"subjectId": "ann", "startsAt": "2020-01-01T00:00:00Z", "events": [{"after": "1d"}, {"name": "a"}]},
            [("startsAt", "OUT_OF_RANGE"), ("events[0].name", "REQUIRED"), ("events[1].at", "REQUIRED")],
        ),
        (
            {"subjectId": "ann", "changes": [{"after": "1d", "at": "2030-01-01T00:00:00Z"}, {"after": "999999d"}]},
            [("changes[0].at", "REQUIRED"), ("changes[1].after", "OUT_OF_RANGE")],
        ),
        (
            {"subjectId": "ann", "answers": {"bye": {}, "call": {"a": "x" * 8192}, "more": 7, "nowhere": {}}},
            [
                ("answers.bye", "ANSWER_NOT_FOUND"),
                ("answers.call", "TOO_LARGE"),
                ("answers.more", "INVALID_TYPE"),
                ("answers.nowhere", "ANSWER_NOT_FOUND"),
            ],
        ),
    ],
    ids=["both", "nobody", "zone-of-a-subject", "no-zone", "past-and-nameless", "when", "answers"],
)
async def test_all_that_is_wrong_with_a_question_is_told(
    stage: Stage, asked: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    await stage.road.publish({**CALL, "next": "more"}, {**CALL, "id": "more", "next": "bye"}, BYE, LATE)

    with pytest.raises(Refused) as refused:
        await stage.simulate(None, **asked)

    assert refused.value.faults == faults


async def test_who_does_not_exist_is_not_found(stage: Stage) -> None:
    await stage.road.publish(BYE)

    with pytest.raises(Refused, match="SUBJECT_NOT_FOUND"):
        await stage.simulate("nobody")
    with pytest.raises(Refused, match="JOURNEY_NOT_FOUND"):
        await stage.simulate(journey_id="nowhere")


async def test_a_window_that_clocks_jump_over_stops_no_simulation(stage: Stage) -> None:
    window = {"start": "02:00", "end": "03:00", "weekdays": ["sunday"]}
    in_window = {"communicationId": "welcome", "sendWindow": window}
    await stage.road.publish({"id": "hello", "send": in_window, "next": "bye"}, BYE)

    made_up = {"subjectAttributes": {}, "timeZone": "Europe/Berlin", "startsAt": "2027-03-22T12:00:00Z"}
    simulation = await stage.trace(None, **made_up)

    hello, _ = simulation["steps"]
    assert hello["leftAt"] == "2027-04-04T00:00:00.000Z"


def _after(start: str, end: str) -> timedelta:
    return datetime.fromisoformat(end) - datetime.fromisoformat(start)


async def _everything(owner: Connection[Record]) -> dict[str, str | None]:
    """A digest of all rows of each table."""
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return {
        table: await owner.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t")
        for (table,) in tables
    }
