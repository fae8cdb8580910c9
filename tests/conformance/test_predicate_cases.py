"""The cases that every engine which answers predicates has to agree on (predicates.json)."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.predicates.evaluate import Missing, evaluate
from orchestrator.predicates.instants import parse_instant
from orchestrator.predicates.parse import About, parse
from orchestrator.predicates.tree import Predicate
from tests.conformance.worlds import Happened, World, facts_for

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("predicates.json").read_text("utf-8"))
DEFAULT_AS_OF = "2026-03-10T12:00:00Z"


def instant(text: str) -> datetime:
    parsed = parse_instant(text)
    assert parsed is not None, f"{text} in predicates.json is not an instant"
    return parsed


def happened(event: str | dict[str, Any]) -> Happened:
    """An event is its instant, or an object with its instant and properties."""
    if isinstance(event, str):
        return Happened(instant(event))
    return Happened(instant(event["at"]), event["properties"])


def world_of(case: dict[str, Any], subject: dict[str, Any]) -> World:
    return World(
        attributes=subject.get("attributes", {}),
        entry=subject.get("entry", {}),
        events={name: [happened(event) for event in events] for name, events in subject.get("events", {}).items()},
        cohorts=frozenset(subject.get("cohorts", ())),
        known_cohorts=frozenset(case.get("knownCohorts", ())),
        created_at=instant(subject["createdAt"]) if "createdAt" in subject else None,
        time_zone=subject.get("timeZone"),
    )


def answer(predicate: Predicate, world: World, as_of: datetime) -> bool | dict[str, str]:
    try:
        return evaluate(predicate, facts_for(predicate, world), as_of)
    except Missing as missing:
        return {"missing": missing.id}


def test_case_names_are_unique() -> None:
    names = [case["name"] for case in CASES]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_every_subject_of_a_case_is_answered_as_written(case: dict[str, Any]) -> None:
    about = About[case.get("about", "subject").upper()]
    predicate, faults = parse(case["predicate"], about=about)
    assert predicate is not None, faults

    answers = [
        answer(predicate, world_of(case, subject), instant(subject.get("asOf", DEFAULT_AS_OF)))
        for subject in case["subjects"]
    ]

    wrong = [
        (subject, given)
        for subject, given in zip(case["subjects"], answers, strict=True)
        if given != subject["holds"] or type(given) is not type(subject["holds"])
    ]
    assert wrong == []
