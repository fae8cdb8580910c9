"""Where a journey can lead."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.domain.backtest import FORKS
from orchestrator.domain.execution import Outcome, Result
from orchestrator.domain.journey import JourneyVersion, Pinned
from orchestrator.domain.journey_form import parse
from orchestrator.domain.project import read_sending
from orchestrator.domain.reachable import MOST_PATHS, Holds, Reachable, reachable
from tests.core.walk import PINNED, Walk

PIN = Pinned(content_revision=1, channel="email", category="marketing")
YES = {"kind": "attribute", "fieldPath": "plan", "operator": "exists"}
BYE = {"id": "bye", "exit": {"reason": "finished"}}
_ANY = read_sending({"quietHours": {"start": "21:00", "end": "08:00"}, "frequencyCaps": [{"limit": 1, "window": "1d"}]})
#: Settings that may hold off any send.
ANYTHING = Holds(quiet=_ANY["quiet_hours"], caps=_ANY["frequency_caps"])


def led(*steps: dict[str, Any], settings: dict[str, Any] | None = None, **members: Any) -> Reachable:
    definition, faults = parse({"steps": list(steps), **members})
    assert definition is not None, faults
    version = JourneyVersion(journey_id="j", version=1, definition=definition, pinned={"hello": PIN})
    sending = read_sending(settings or {})
    return reachable(version, Holds(quiet=sending["quiet_hours"], caps=sending["frequency_caps"]))


def ways(found: Reachable, step_id: str) -> list[tuple[str | None, str | None]]:
    """(why, where to) of each way on."""
    (node,) = [node for node in found.nodes if node.step_id == step_id]
    return [(way.reason or way.result.value, way.next or (way.outcome and way.outcome.value)) for way in node.ways]


def test_each_arm_of_a_branch_and_of_a_split_is_a_way_and_the_split_says_how_many_take_it() -> None:
    found = led(
        {"id": "ask", "branch": {"arms": [{"id": "yes", "when": YES, "next": "half"}], "otherwise": "bye"}},
        {
            "id": "half",
            "split": {"arms": [{"id": "a", "weight": 1, "next": "bye"}, {"id": "b", "weight": 3, "next": "bye"}]},
        },
        BYE,
    )

    assert ways(found, "ask") == [("yes", "half"), ("otherwise", "bye")]
    assert [(way.reason, way.share) for node in found.nodes for way in node.ways if way.share] == [
        ("a", 0.25),
        ("b", 0.75),
    ]
    (end,) = found.outcomes
    assert (end.outcome, end.reason, end.paths) == (Outcome.COMPLETED, "finished", 3)
    assert [(passed.step_id, passed.reason) for passed in end.path] == [("ask", "otherwise"), ("bye", None)]


def test_steps_that_ways_meet_at_stand_there_once_and_before_what_they_lead_to() -> None:
    chain = [
        {"id": f"s{n}", "branch": {"arms": [{"id": "yes", "when": YES, "next": f"s{n + 1}"}], "otherwise": f"s{n + 1}"}}
        for n in range(400)
    ]
    found = led(*chain, {**BYE, "id": "s400"})

    assert [node.step_id for node in found.nodes] == [f"s{n}" for n in range(401)]
    assert found.outcomes[0].paths == MOST_PATHS
    assert len(found.outcomes[0].path) == 401


def test_what_cannot_be_reached_is_not_there() -> None:
    found = led({"id": "pause", "wait": {"duration": "1d"}, "next": "bye"}, BYE, {"id": "never", "exit": {}})

    assert [node.step_id for node in found.nodes] == ["pause", "bye"]


def test_a_wait_without_a_timeout_ends_one_way_and_a_wait_for_a_date_may_find_none() -> None:
    event = {"event": {"eventName": "paid"}}
    found = led(
        {"id": "paid", "waitFor": event, "next": "again"},
        {"id": "again", "waitFor": {**event, "timeout": "1d", "otherwise": "bye"}, "next": "due"},
        {"id": "due", "wait": {"date": {"fieldPath": "due"}}, "next": "bye"},
        BYE,
    )

    assert ways(found, "paid") == [("came", "again")]
    assert ways(found, "again") == [("came", "due"), ("timeout", "bye")]
    assert ways(found, "due") == [("executed", "bye"), ("no_date", "bye")]


def test_a_send_can_be_stopped_by_the_gates_that_are_set_as_its_policy_says() -> None:
    send = {"communicationId": "hello"}
    settings = {"quietHours": {"start": "21:00", "end": "08:00"}, "frequencyCaps": [{"limit": 1, "window": "1d"}]}
    of_others = {"quietHours": {"start": "21:00", "end": "08:00", "channels": ["sms"]}}

    def of_send(settings: dict[str, Any] | None, **policy: Any) -> list[tuple[str | None, str | None]]:
        found = led({"id": "hi", "send": {**send, **policy}, "next": "bye"}, BYE, settings=settings)
        return ways(found, "hi")[2:]

    skipped = [("suppressed", "bye"), ("opted_out", "bye")]
    assert of_send(None) == skipped
    assert of_send(of_others) == skipped
    assert of_send(settings) == [*skipped, ("frequency_cap", "bye")]
    assert of_send(settings, waitAtMost="1h") == [*skipped, ("quiet_hours", "bye"), ("frequency_cap", "bye")]
    assert of_send(None, onBlocked="wait") == []
    assert of_send(None, onBlocked="exit") == [("suppressed", "exited"), ("opted_out", "exited")]
    hours = {"start": "09:00", "end": "17:00"}
    assert ("send_window", "bye") in of_send(None, onBlocked="skip", sendWindow=hours)


def test_a_webhook_that_is_not_taken_leads_elsewhere_if_there_is_an_otherwise() -> None:
    calls = {"webhook": {"url": "https://example.com/"}}
    found = led(
        {"id": "call", "webhook": {**calls["webhook"], "otherwise": "bye"}, "next": "again"},
        {"id": "again", **calls, "next": "write"},
        {"id": "write", "updateSubject": {"attributes": {"plan": "pro"}}, "next": "tell"},
        {"id": "tell", "emitEvent": {"eventName": "told"}, "next": "bye"},
        BYE,
    )

    assert ways(found, "call") == [("executed", "again"), ("failed", "bye")]
    assert ways(found, "again") == [("executed", "write"), ("failed", "write")]
    assert ways(found, "write") == [("executed", "tell"), ("failed", "tell")]
    assert ways(found, "tell") == [("executed", "bye"), ("failed", "bye")]


def test_what_can_come_anywhere_has_no_path() -> None:
    found = led(BYE, exitRules=[{"id": "left", "when": YES}], exitOnGoal=True, maxDurationDays=3)

    assert [(end.outcome.value, end.reason, end.path) for end in found.outcomes[1:]] == [
        ("exited", "left", ()),
        ("goal_reached", "goal", ()),
        ("expired", "max_duration", ()),
    ]


def test_whatever_the_core_does_is_on_a_way() -> None:
    """On random journeys in random worlds: each visit is a way from its step, to the next visit's, or to the end."""
    told: Counter[str] = Counter()
    for seed in range(200):
        walk = Walk(seed, Counter())
        walk.go(40)
        if walk.carried:  # its visits are those of several versions
            continue
        version = JourneyVersion(journey_id="j", version=1, definition=walk.definition, pinned=PINNED)
        found = reachable(version, ANYTHING)  # settings change on the way
        nodes = {node.step_id: node for node in found.nodes}
        visits = walk.app.visits
        for number, visit in enumerate(visits):
            if visit.reason == "withdrawn":  # the end of a send that was begun, and of no way of its own
                continue
            taken = [way for way in nodes[visit.step_id].ways if way.result is visit.result]
            if visit.result is Result.SKIPPED or visit.step_kind in FORKS:
                taken = [way for way in taken if way.reason == visit.reason]
            assert taken, (seed, visit)
            if number + 1 < len(visits):
                assert visits[number + 1].step_id in {way.next for way in taken}, (seed, visit)
            told[visit.step_kind] += 1
        if walk.app.ended is not None and walk.app.ended[0] != Outcome.CANCELED.value:
            ends = {(end.outcome.value, end.reason) for end in found.outcomes}
            assert walk.app.ended[:2] in ends, seed
    assert set(told) == {
        *("send", "wait", "wait_for", "branch", "split", "adaptive_branch", "nba_decision"),
        *("update_subject", "emit_event", "webhook", "exit"),
    }  # fmt: skip
