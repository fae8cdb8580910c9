"""Steps that change the subject, let events happen and call webhooks, as authors write them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.domain.fillings import Copy, Template
from orchestrator.domain.journey import EmitEvent, UpdateSubject, Webhook
from orchestrator.domain.journey_form import parse
from orchestrator.domain.journey_graph import Existing, examine

Json = dict[str, Any]

HOOK: Json = {"url": "https://example.com/v1/{{ subject.id }}"}
NOTHING = Existing(communications={}, audiences={}, trigger_contracts=set(), cohorts=set())
END: Json = {"id": "end", "exit": {}}


def steps_of(*steps: Json) -> dict[str, Any]:
    definition, faults = parse({"steps": list(steps)})
    assert faults == []
    assert definition is not None
    return dict(definition.steps)


def faults_of(kind: str, body: object) -> list[tuple[str, str]]:
    """Paths from the body on."""
    _, faults = parse({"steps": [{"id": "a", kind: body, "next": "end"}]})
    assert all(fault.path.startswith(f"steps[0].{kind}") for fault in faults)
    return [(fault.path.removeprefix(f"steps[0].{kind}"), fault.reason) for fault in faults]


def test_values_are_literal_templates_or_copies() -> None:
    attributes = {
        "plan": "pro",
        "old": None,
        "greeting": "Hello {{ subject.attributes.name }}",
        "brace": "{a}",
        "seen": {"score": {"$path": "$steps.check.score"}, "list": [{"$path": "$entry.amount"}, 1]},
        "copy": {"$path": "address.city"},
    }

    (step,) = steps_of({"id": "a", "updateSubject": {"attributes": attributes}, "next": "end"}).values()

    assert step == UpdateSubject(
        id="a",
        attributes={
            "plan": "pro",
            "old": None,
            "greeting": Template("Hello {{ subject.attributes.name }}"),
            "brace": "{a}",
            "seen": {"score": Copy(("$steps", "check", "score")), "list": [Copy(("$entry", "amount")), 1]},
            "copy": Copy(("address", "city")),
        },
        next="end",
    )


def test_what_may_be_left_out_of_events_and_webhooks_has_its_default() -> None:
    event, hook = steps_of(
        {"id": "tell", "emitEvent": {"eventName": "scored"}}, {"id": "call", "webhook": HOOK, "next": "end"}
    ).values()

    assert event == EmitEvent(id="tell", event_name="scored", properties={}, next="")
    assert hook == Webhook(
        id="call",
        url=HOOK["url"],
        method="post",
        headers={},
        body=None,
        timeout=timedelta(seconds=10),
        retry_for=timedelta(hours=1),
        next="end",
        otherwise="",
    )


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (None, [("", "REQUIRED")]),
        ({}, [("", "REQUIRED")]),
        ([], [("", "INVALID_TYPE")]),
        ({"a": {"$path": 5}}, [(".a.$path", "INVALID_TYPE")]),
        ({"a": {"$path": ""}}, [(".a.$path", "FIELD_PATH_REQUIRED")]),
        ({"a": {"$path": "$subject.created_at"}}, [(".a.$path", "INVALID_VALUE")]),
        ({"a": {"$path": "$steps.check"}}, [(".a.$path", "INVALID_VALUE")]),
        ({"a": [{"$path": "b", "c": 1}]}, [(".a[0]", "INVALID_VALUE")]),
        ({"$path": "a"}, [("", "INVALID_VALUE")]),
        ({"a": "{{ x | nothing }}", "b": "{% if %}"}, [(".a", "INVALID_TEMPLATE"), (".b", "INVALID_TEMPLATE")]),
        ({f"a{number}": "{{ x }}" for number in range(51)}, [("", "TOO_LARGE")]),
        ({f"a{number}": 1 for number in range(501)}, [("", "TOO_LARGE")]),
    ],
)
def test_faults_of_what_is_filled_in(attributes: object, expected: list[tuple[str, str]]) -> None:
    assert faults_of("updateSubject", {"attributes": attributes}) == [
        (f".attributes{path}", reason) for path, reason in expected
    ]


def test_faults_of_an_event() -> None:
    assert faults_of("emitEvent", {"eventName": " a", "properties": []}) == [
        (".eventName", "INVALID_VALUE"),
        (".properties", "INVALID_TYPE"),
    ]
    assert faults_of("emitEvent", {}) == [(".eventName", "EVENT_NAME_REQUIRED")]
    assert faults_of("emitEvent", {"eventName": 5, "name": "x"}) == [
        (".name", "UNKNOWN_FIELD"),
        (".eventName", "INVALID_TYPE"),
    ]


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ({"url": None}, [("url", "REQUIRED")]),
        ({"url": "ftp://example.com/"}, [("url", "INVALID_VALUE")]),
        ({"url": "https://user:secret@example.com/"}, [("url", "INVALID_VALUE")]),
        # The host is nobody's to choose but the author's.
        ({"url": "https://{{ subject.attributes.host }}/x"}, [("url", "INVALID_VALUE")]),
        ({"url": "https://example.com{{ subject.id }}/x"}, [("url", "INVALID_VALUE")]),
        ({"url": "{{ entry.url }}"}, [("url", "INVALID_VALUE")]),
        ({"url": "https://example.com/{{ x"}, [("url", "INVALID_TEMPLATE")]),
        ({"url": "https://example.com/{{ x }}" + "y" * 2048}, [("url", "TOO_LONG")]),
        ({"method": "trace"}, [("method", "UNKNOWN_ENUM_VALUE")]),
        ({"method": "get", "body": {"a": 1}}, [("body", "INVALID_VALUE")]),
        ({"headers": {"host": "evil", "x": 5}}, [("headers.host", "INVALID_VALUE"), ("headers.x", "INVALID_TYPE")]),
        ({"body": {"a": {"$path": 1}}}, [("body.a.$path", "INVALID_TYPE")]),
        ({"timeout": "31s", "retryFor": "8d"}, [("timeout", "OUT_OF_RANGE"), ("retryFor", "OUT_OF_RANGE")]),
        ({"otherwise": "a b", "onFailure": "next"}, [("onFailure", "UNKNOWN_FIELD"), ("otherwise", "INVALID_ID")]),
    ],
)
def test_faults_of_a_webhook(hook: Json, expected: list[tuple[str, str]]) -> None:
    assert faults_of("webhook", HOOK | hook) == [(f".{path}", reason) for path, reason in expected]


def test_answers_are_read_of_webhooks_alone_and_behind_them() -> None:
    def asks(step_id: str) -> Json:
        return {"kind": "attribute", "fieldPath": f"$steps.{step_id}.score", "operator": "exists"}

    definition, _ = parse(
        {
            "exitRules": [{"id": "r", "when": asks("late")}, {"id": "s", "when": asks("end")}],
            "steps": [
                {
                    "id": "ask",
                    "branch": {"arms": [{"id": "x", "when": asks("late"), "next": "late"}], "otherwise": "late"},
                },
                {"id": "late", "webhook": HOOK | {"body": {"a": {"$path": "$steps.late.x"}}}, "next": "tell"},
                {
                    "id": "tell",
                    "emitEvent": {"eventName": "e", "properties": {"a": {"$path": "$steps.late.x"}}},
                    "next": "write",
                },
                {"id": "write", "updateSubject": {"attributes": {"a": [{"$path": "$steps.gone.x"}]}}, "next": "end"},
                END,
            ],
        }
    )
    assert definition is not None

    found = examine(definition, NOTHING)

    assert [(fault.path, fault.reason) for fault in found.faults] == [
        ("exitRules[1].when", "ANSWER_NOT_FOUND"),
        ("steps[3].updateSubject.attributes.a[0].$path", "ANSWER_NOT_FOUND"),
    ]
    assert [(warning.path, warning.reason) for warning in found.warnings] == [
        ("steps[0].branch.arms[0].when", "ANSWER_NEVER_KNOWN"),
        ("steps[1].webhook.body.a.$path", "ANSWER_NEVER_KNOWN"),
    ]


def test_ways_out_of_a_webhook_lead_somewhere() -> None:
    steps = [{"id": "a", "webhook": HOOK | {"otherwise": "gone"}}, END]
    definition, _ = parse({"steps": steps})
    assert definition is not None

    faults = examine(definition, NOTHING).faults

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("steps[0].next", "NEXT_NOT_FOUND"),
        ("steps[0].webhook.otherwise", "NEXT_NOT_FOUND"),
    ]
