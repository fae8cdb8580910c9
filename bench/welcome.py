"""The journey that is measured: send, wait, branch, send, end; and others as short as they can be."""

from __future__ import annotations

from typing import Any

JOURNEY = "welcome"
WAIT_SECONDS = 1

_MESSAGES = {
    "welcome": ("Welcome, {{ subject.attributes.name }}!", "Hello {{ subject.attributes.name }}, good to have you."),
    "thanks": ("Thank you, {{ subject.attributes.name }}", "Your order is on its way."),
    "nudge": ("Still looking, {{ subject.attributes.name }}?", "Have a look at what is new."),
}

STEPS: list[dict[str, Any]] = [
    {"id": "hello", "send": {"communicationId": "welcome"}, "next": "pause"},
    {"id": "pause", "wait": {"duration": f"{WAIT_SECONDS}s"}, "next": "check"},
    {
        "id": "check",
        "branch": {
            "arms": [
                {
                    "id": "pro",
                    "when": {"kind": "attribute", "fieldPath": "plan", "operator": "equals", "value": "pro"},
                    "next": "thank",
                }
            ],
            "otherwise": "nudge",
        },
    },
    {"id": "thank", "send": {"communicationId": "thanks"}, "next": "end"},
    {"id": "nudge", "send": {"communicationId": "nudge"}, "next": "end"},
    {"id": "end", "exit": {"reason": "finished"}},
]


def attributes(number: int) -> dict[str, Any]:
    """Of the subject with this number: every other one is on the plan that the branch asks for."""
    return {"name": f"Ada {number}", "plan": "pro" if number % 2 else "free"}


def communications() -> list[tuple[str, dict[str, Any]]]:
    return [
        (
            "/v1/communications",
            {"id": name, "name": name, "channel": "log", "category": "marketing", "subject": subject, "body": body},
        )
        for name, (subject, body) in _MESSAGES.items()
    ]


def journey(journey_id: str, steps: list[dict[str, Any]], **definition: Any) -> list[tuple[str, dict[str, Any]]]:
    """Makes and publishes it."""
    document = {"id": journey_id, "name": journey_id, "steps": steps, **definition}
    return [("/v1/journeys", document), (f"/v1/journeys/{journey_id}:publish", {})]


def waiting(seconds: int) -> list[dict[str, Any]]:
    """Nothing but a wait."""
    return [
        {"id": "pause", "wait": {"duration": f"{seconds}s"}, "next": "end"},
        {"id": "end", "exit": {"reason": "finished"}},
    ]
