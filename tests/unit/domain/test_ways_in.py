"""What an author says of the ways into a journey: when schedules fire, and what is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.journey_form import parse
from orchestrator.domain.journey_graph import Existing, examine
from orchestrator.domain.schedule import CATCH_UP, Firing, Schedule, read_cron
from orchestrator.predicates.tree import Everyone

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)  # a Sunday
DAY = timedelta(days=1)


def firing(cron: str, time_zone: str = "UTC", **dates: datetime | None) -> Firing:
    schedule = Schedule(cron=read_cron(cron), time_zone=time_zone)
    return Firing(schedule=schedule, **{"starts_at": None, "ends_at": None, **dates})


def once(at: datetime) -> Firing:
    return Firing(schedule=Schedule(at=at), starts_at=None, ends_at=None)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 9 * * mon", datetime(2026, 11, 30, 9, 30, tzinfo=UTC)),
        ("0 0 1 */2 *", datetime(2027, 1, 1, tzinfo=UTC)),
        ("*/20 12 * * *", datetime(2026, 11, 29, 12, 20, tzinfo=UTC)),
        ("0 8 * * 7", datetime(2026, 12, 6, 8, tzinfo=UTC)),
        ("0 8 29 feb *", datetime(2028, 2, 29, 8, tzinfo=UTC)),
    ],
)
def test_a_cron_expression_says_when(cron: str, expected: datetime) -> None:
    assert firing(cron).after(NOON, 1) == [expected]


def test_clocks_are_those_of_the_time_zone() -> None:
    march = datetime(2026, 3, 27, 12, tzinfo=UTC)  # clocks go forward on the 29th

    times = firing("0 9 * * *", "Europe/Berlin").after(march, 3)

    assert [(at.day, at.hour) for at in times] == [(28, 8), (29, 7), (30, 7)]


def test_it_fires_within_its_dates_and_is_over_when_nothing_can_be_made_up_for() -> None:
    daily = firing("0 12 * * *", starts_at=NOON + 2 * DAY, ends_at=NOON + 3 * DAY)

    assert daily.after(NOON, 3) == [NOON + 2 * DAY]
    assert not daily.is_over(NOON + 2 * DAY + CATCH_UP - timedelta(seconds=1))
    assert daily.is_over(NOON + 2 * DAY + CATCH_UP)
    assert once(NOON).after(NOON - DAY, 3) == [NOON]
    assert [once(NOON).is_over(NOON + late) for late in (CATCH_UP / 2, CATCH_UP)] == [False, True]


@pytest.mark.parametrize(
    "cron",
    [
        "", "0 9 * *", "0 9 * * * *", "60 9 * * *", "0 24 * * *", "0 9 L * *", "0 9 * * 5#3", "0 9 * * 5L",
        "0 9 LW * *", "@daily", "0 9 30 2 *", "0 9 1 * mon", "0 9 * * monday", "0 9 * * */0", "a b c d e", "0 9 ? * *",
    ],
)  # fmt: skip
def test_what_a_calendar_cannot_say_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match="e"):
        read_cron(cron)


BYE = {"id": "bye", "exit": {}}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"schedule": {}}, [("schedule", "REQUIRED")]),
        ({"schedule": {"at": "2026-01-01T00:00:00Z", "cron": "0 9 * * *"}}, [("schedule", "INVALID_VALUE")]),
        ({"schedule": {"at": "2026-01-01T00:00:00.5Z"}}, [("schedule.at", "INVALID_VALUE")]),
        ({"schedule": {"at": "tomorrow"}}, [("schedule.at", "INVALID_VALUE")]),
        (
            {"schedule": {"cron": "9", "timeZone": "Mars", "ratePerSecond": 0, "segmentId": "a", "everyone": True}},
            [
                ("schedule.timeZone", "INVALID_VALUE"),
                ("schedule.segmentId", "INVALID_VALUE"),
                ("schedule.cron", "INVALID_VALUE"),
                ("schedule.ratePerSecond", "OUT_OF_RANGE"),
            ],
        ),
        (
            {"schedule": {"at": "2026-01-01T00:00:00Z", "timeZone": "UTC", "often": 1}},
            [("schedule.often", "UNKNOWN_FIELD"), ("schedule.timeZone", "INVALID_VALUE")],
        ),
        ({"whilePaused": "wait"}, [("whilePaused", "UNKNOWN_ENUM_VALUE")]),
        ({"entryGrace": "2h"}, [("entryGrace", "OUT_OF_RANGE")]),
        ({"entryGrace": "0s"}, [("entryGrace", "OUT_OF_RANGE")]),
        ({"entryCondition": {}}, [("entryCondition.eventName", "EVENT_NAME_REQUIRED")]),
        ({"entryCondition": "signup"}, [("entryCondition", "INVALID_TYPE")]),
        (
            {"entryCondition": {"eventName": "x"}, "triggerContractId": "y"},
            [("entryCondition", "TWO_TRIGGERS")],
        ),
        (
            {"entryCondition": {"eventName": "x", "segmentId": "s", "predicate": {"kind": "and", "clauses": []}}},
            [("entryCondition.segmentId", "INVALID_VALUE"), ("entryCondition.predicate.clauses", "EMPTY_CLAUSES")],
        ),
        (
            {"entryCondition": {"eventName": "x", "predicate": {"kind": "in_cohort", "cohortId": "vip"}}},
            [("entryCondition.predicate.kind", "LEAF_NOT_ALLOWED")],
        ),
        (
            {"entryCondition": {"segmentId": "s", "entryKeyPath": "id", "maxEventAge": "9000d", "transition": "gone"}},
            [
                ("entryCondition.maxEventAge", "OUT_OF_RANGE"),
                ("entryCondition.transition", "UNKNOWN_ENUM_VALUE"),
                ("entryCondition.entryKeyPath", "INVALID_VALUE"),
            ],
        ),
    ],
)
def test_every_fault_of_a_way_in_is_told_with_its_path(
    members: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    definition, faults = parse({"steps": [BYE], **members})

    assert definition is None
    assert [(fault.path, fault.reason) for fault in faults] == expected


def test_ways_in_stand_beside_a_graph_and_not_in_its_entry() -> None:
    node = {"id": "in", "type": "entry_trigger", "data": {"label": "Start", "entryCondition": {"eventName": "x"}}}
    graph = {"nodes": [node, {"id": "bye", "type": "exit", "data": {}}], "edges": [{"source": "in", "target": "bye"}]}

    _, faults = parse({"definition": graph, "entryCondition": {"eventName": "x", "maxEventAge": "soon"}})

    assert [(fault.path, fault.reason) for fault in faults] == [
        ("definition.nodes[0].data.entryCondition", "UNKNOWN_FIELD"),
        ("entryCondition.maxEventAge", "INVALID_VALUE"),
    ]


NOTHING = Existing(communications={}, audiences={}, trigger_contracts={"on-signup"}, cohorts=set())
GRACE = {"entryGrace": "5m"}


@pytest.mark.parametrize(
    ("members", "existing", "faults", "warnings"),
    [
        (
            {"entryCondition": {"segmentId": "vip", "predicate": {"kind": "in_cohort", "cohortId": "gold"}}},
            NOTHING,
            [
                ("entryCondition.segmentId", "COHORT_NOT_FOUND"),
                ("entryCondition.predicate.cohortId", "COHORT_NOT_FOUND"),
            ],
            [],
        ),
        ({"schedule": {"cron": "0 9 * * *"}}, NOTHING, [("schedule", "SCHEDULE_WITHOUT_CROWD")], []),
        (
            {"schedule": {"cron": "0 9 * * *", "segmentId": "vip"}},
            NOTHING,
            [("schedule.segmentId", "COHORT_NOT_FOUND")],
            [],
        ),
        ({"schedule": {"cron": "0 9 * * *", "everyone": True}}, NOTHING, [], []),
        ({**GRACE, "triggerContractId": "on-signup"}, NOTHING, [], [("entryGrace", "ENTRY_GRACE_UNUSED")]),
        ({**GRACE, "triggerContractId": "on-signup"}, replace(NOTHING, contract_asks=True), [], []),
        (
            {**GRACE, "entryCondition": {"segmentId": "vip", "predicate": {"kind": "everyone"}}},
            replace(NOTHING, cohorts={"vip"}),
            [],
            [],
        ),
        (
            {**GRACE, "entryCondition": {"eventName": "x", "predicate": {"kind": "everyone"}}},
            NOTHING,
            [],
            [("entryGrace", "ENTRY_GRACE_UNUSED")],
        ),
        ({**GRACE, "audienceId": "all"}, replace(NOTHING, audiences={"all": Everyone()}), [], []),
    ],
)
def test_what_stands_against_publishing_it(
    members: dict[str, object],
    existing: Existing,
    faults: list[tuple[str, str]],
    warnings: list[tuple[str, str]],
) -> None:
    definition, unread = parse({"steps": [BYE], **members})
    assert definition is not None, unread

    found = examine(definition, existing)

    assert [(fault.path, fault.reason) for fault in found.faults] == faults
    assert [(warning.path, warning.reason) for warning in found.warnings] == warnings
