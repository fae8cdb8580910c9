"""The core at waits: until a time, until a date, for what happens; and splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.domain.advance import LONGEST_SLEEP, PARK_RECHECK, Known, advance, first_position
from orchestrator.domain.execution import Decision, End, Outcome, Position, Result, Sleep, Why
from orchestrator.domain.gates import Consent
from orchestrator.domain.journey import (
    After,
    Arm,
    AttributeDate,
    Branch,
    Changed,
    Condition,
    Definition,
    Exit,
    Happened,
    JourneyVersion,
    Split,
    SplitArm,
    Step,
    TimeOfDay,
    WaitFor,
    WaitUntil,
)
from orchestrator.predicates.facts import EventFacts, Facts
from orchestrator.predicates.tree import (
    AnyOf,
    Attribute,
    EventFired,
    InCohort,
    Last,
    Operator,
    Source,
)

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)  # a Tuesday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
BOUGHT = Source(name="buy")
EXITS = (Exit(id="bye", reason="finished"), Exit(id="late", reason="late"))


def journey(*steps: Step) -> JourneyVersion:
    return JourneyVersion(
        journey_id="j",
        version=1,
        definition=Definition(
            audience_id=None,
            trigger_contract_id=None,
            reentry=None,
            max_duration=None,
            steps={
                step.id: step for step in (*steps, Exit(id="bye", reason="finished"), Exit(id="late", reason="late"))
            },
        ),
        pinned={},
    )


def known(
    attributes: dict[str, Any] | None = None,
    *,
    events: Mapping[Source, EventFacts] | None = None,
    known_cohorts: frozenset[str] = frozenset(),
    happened: Mapping[str, datetime] | None = None,
    subject_id: str = "ada",
    zone: str | None = None,
    time_zone: str = "UTC",
) -> Known:
    """`zone` is the subject's, `time_zone` the project's."""
    subject = Facts(attributes=attributes or {}, events=events or {}, known_cohorts=known_cohorts, time_zone=zone)
    return Known(
        subject=subject,
        consent=Consent(),
        started_at=NOON,
        subject_id=subject_id,
        time_zone=time_zone,
        happened=happened or {},
    )


def slept_until(decision: Decision) -> datetime:
    assert isinstance(decision.effect, Sleep)
    assert decision.still_waiting
    return decision.effect.until


def wait_until(until: TimeOfDay | AttributeDate) -> JourneyVersion:
    return journey(WaitUntil(id="wait", until=until, next="bye"))


def wait_for(condition: Condition, timeout: timedelta | None = DAY) -> JourneyVersion:
    return journey(WaitFor(id="wait", condition=condition, timeout=timeout, next="bye", otherwise="late"))


AT_WAIT = Position(step_id="wait", since=NOON)


@pytest.mark.parametrize(
    ("clock", "weekdays", "zone", "instant"),
    [
        (time(13), [], "UTC", NOON + HOUR),
        (time(12), [], "UTC", NOON),
        (time(11, 59, 59), [], "UTC", NOON + DAY - timedelta(seconds=1)),
        (time(9), [], "America/New_York", NOON + 2 * HOUR),
        (time(9), [1], "UTC", NOON + 7 * DAY - 3 * HOUR),
        (time(9), [0, 4], "UTC", NOON + 3 * DAY - 3 * HOUR),
        # It is Wednesday there already.
        (time(3), [2], "Pacific/Auckland", NOON + 2 * HOUR),
    ],
)
def test_a_wait_for_a_time_of_day_is_over_when_the_subjects_clock_shows_it(
    clock: time, weekdays: list[int], zone: str, instant: datetime
) -> None:
    version = wait_until(TimeOfDay(clock=clock, weekdays=frozenset(weekdays)))

    before = advance(version, AT_WAIT, known(zone=zone), max(NOON, instant - TICK))
    after = advance(version, AT_WAIT, known(zone=zone), instant)

    assert instant == NOON or slept_until(before) == instant
    passed = after.visits[0]
    assert (passed.step_id, passed.result, passed.left_at) == ("wait", Result.EXECUTED, instant)


def test_without_a_zone_of_its_own_a_subject_has_the_projects() -> None:
    version = wait_until(TimeOfDay(clock=time(9)))

    assert slept_until(advance(version, AT_WAIT, known(time_zone="America/New_York"), NOON)) == NOON + 2 * HOUR
    both = known(zone="UTC", time_zone="America/New_York")
    assert slept_until(advance(version, AT_WAIT, both, NOON)) == NOON + 21 * HOUR


def test_a_zone_that_changes_in_the_middle_moves_the_end_of_the_wait() -> None:
    version = wait_until(TimeOfDay(clock=time(18)))

    assert slept_until(advance(version, AT_WAIT, known(zone="UTC"), NOON + HOUR)) == NOON + 6 * HOUR
    moved = advance(version, AT_WAIT, known(zone="Asia/Tokyo"), NOON + HOUR)
    assert slept_until(moved) == NOON + 21 * HOUR
    # It was six in Karachi an hour after the arrival.
    assert advance(version, AT_WAIT, known(zone="Asia/Karachi"), NOON + 2 * HOUR).visits


@pytest.mark.parametrize(
    ("since", "clock", "instant"),
    [
        # At two, clocks in Berlin went to three.
        (datetime(2026, 3, 28, 12, tzinfo=UTC), time(2, 30), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, tzinfo=UTC), time(2, 30), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 28, 12, tzinfo=UTC), time(3), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        # At three, back to two.
        (datetime(2026, 10, 24, 12, tzinfo=UTC), time(2, 30), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 0, 45, tzinfo=UTC), time(2, 30), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)),
    ],
)
def test_on_the_days_on_which_clocks_are_changed_it_waits_for_the_jump_and_for_the_first_of_two(
    since: datetime, clock: time, instant: datetime
) -> None:
    version, berlin = wait_until(TimeOfDay(clock=clock)), known(zone="Europe/Berlin")
    here = Position(step_id="wait", since=since)

    assert advance(version, here, berlin, instant).visits
    assert since == instant or slept_until(advance(version, here, berlin, since)) == instant


@pytest.mark.parametrize(
    ("value", "offset", "clock", "zone", "instant"),
    [
        ("2026-03-10", timedelta(0), None, "UTC", datetime(2026, 3, 10, tzinfo=UTC)),
        ("2026-03-10", timedelta(0), time(9), "America/New_York", datetime(2026, 3, 10, 13, tzinfo=UTC)),
        ("2026-03-10", -3 * DAY, time(9), "America/New_York", datetime(2026, 3, 7, 14, tzinfo=UTC)),
        ("2026-03-10", -DAY - HOUR, time(9), "UTC", datetime(2026, 3, 9, 8, tzinfo=UTC)),
        ("2026-03-10", 2 * DAY + HOUR, None, "UTC", datetime(2026, 3, 12, 1, tzinfo=UTC)),
        ("2026-03-10T08:00:00+02:00", HOUR, None, "Asia/Tokyo", datetime(2026, 3, 10, 7, tzinfo=UTC)),
        ("2026-03-10T20:00:00Z", timedelta(0), time(9), "Asia/Tokyo", datetime(2026, 3, 11, tzinfo=UTC)),
        # Days of an instant without a time of day have 24 hours, also when clocks are changed between.
        ("2026-03-07T12:00:00Z", 2 * DAY, None, "America/New_York", datetime(2026, 3, 9, 12, tzinfo=UTC)),
        # On a day that begins at one.
        ("2026-04-24", timedelta(0), None, "Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ],
)
def test_a_wait_for_a_date_is_over_so_long_before_or_after_it(
    value: str, offset: timedelta, clock: time | None, zone: str, instant: datetime
) -> None:
    version = wait_until(AttributeDate(path=("due",), offset=offset, clock=clock))

    assert slept_until(advance(version, AT_WAIT, known({"due": value}, zone=zone), NOON)) == instant
    assert advance(version, AT_WAIT, known({"due": value}, zone=zone), instant).visits[0].reason is None


def test_a_date_that_is_over_is_not_waited_for() -> None:
    version = wait_until(AttributeDate(path=("due",), offset=timedelta(0)))

    (passed, _) = advance(version, AT_WAIT, known({"due": "2026-03-01"}), NOON).visits

    assert (passed.result, passed.reason, passed.left_at) == (Result.EXECUTED, None, NOON)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"due": None}, {"due": "soon"}, {"due": "2026-02-30"}, {"due": 5}, {"due": "2026-03-10T08:00:00"}, {"due": {}},
     {"due": "9999-12-31"}, {"due": "0001-01-01"}],
)  # fmt: skip
def test_without_a_date_a_wait_for_it_is_skipped(attributes: dict[str, Any]) -> None:
    version = wait_until(AttributeDate(path=("due",), offset=-3 * DAY if "0001" in str(attributes) else 3 * DAY))

    (passed, left) = advance(version, AT_WAIT, known(attributes), NOON).visits

    assert (passed.step_kind, passed.result, passed.reason) == ("wait", Result.SKIPPED, "no_date")
    assert left.step_id == "bye"


def test_a_date_that_is_moved_or_removed_in_the_middle_moves_the_end_of_the_wait() -> None:
    version = wait_until(AttributeDate(path=("due",), offset=timedelta(0)))

    assert slept_until(advance(version, AT_WAIT, known({"due": "2026-03-09"}), NOON)) == datetime(
        2026, 3, 9, tzinfo=UTC
    )
    assert slept_until(advance(version, AT_WAIT, known({"due": "2026-03-05"}), NOON)) == datetime(
        2026, 3, 5, tzinfo=UTC
    )
    assert advance(version, AT_WAIT, known({}), NOON).visits[0].reason == "no_date"


PRO = Attribute(path=("tier",), operator=Operator.EQUALS, value="pro")


def test_what_holds_on_arrival_is_not_waited_for() -> None:
    decision = advance(wait_for(PRO), AT_WAIT, known({"tier": "pro"}), NOON)

    assert [(v.step_kind, v.reason) for v in decision.visits] == [("wait_for", "came"), ("exit", None)]
    assert decision.effect == End(outcome=Outcome.COMPLETED, reason="finished")


def test_what_does_not_come_in_time_is_a_timeout_and_another_way() -> None:
    early = advance(wait_for(PRO), AT_WAIT, known(), NOON + DAY - TICK)
    late = advance(wait_for(PRO), AT_WAIT, known(), NOON + DAY)

    assert early.effect == Sleep(until=NOON + DAY, step_id="wait", why=Why.WAIT_FOR)
    assert (late.visits[0].reason, late.position.step_id) == ("timeout", "late")


def test_what_comes_at_the_timeout_has_come() -> None:
    decision = advance(wait_for(PRO), AT_WAIT, known({"tier": "pro"}), NOON + DAY)

    assert decision.visits[0].reason == "came"


def test_without_a_timeout_it_looks_again_once_a_year() -> None:
    decision = advance(wait_for(PRO, None), AT_WAIT, known(), NOON)

    assert slept_until(decision) == NOON + LONGEST_SLEEP
    assert advance(wait_for(PRO, None), AT_WAIT, known(), NOON + LONGEST_SLEEP).still_waiting


def test_whatever_is_far_off_it_looks_again_once_a_year() -> None:
    far = known({"d": "2200-01-01"})
    version = wait_until(AttributeDate(path=("d",), offset=timedelta(0)))

    first = advance(version, AT_WAIT, far, NOON)
    second = advance(version, AT_WAIT, far, NOON + LONGEST_SLEEP)

    assert (slept_until(first), slept_until(second)) == (NOON + LONGEST_SLEEP, NOON + 2 * LONGEST_SLEEP)
    assert first.still_waiting
    assert second.still_waiting


def test_it_wakes_when_time_alone_could_make_it_hold() -> None:
    quiet = EventFired(source=BOUGHT, window=Last(duration=2 * HOUR), at_least=1, negated=True)
    bought = known(events={BOUGHT: EventFacts(total=1, first_at=NOON - HOUR, last_at=NOON - HOUR)})

    assert slept_until(advance(wait_for(quiet), AT_WAIT, bought, NOON)) == NOON + HOUR
    assert advance(wait_for(quiet), AT_WAIT, bought, NOON + HOUR).visits[0].reason == "came"
    assert slept_until(advance(wait_for(quiet, timedelta(minutes=5)), AT_WAIT, bought, NOON)) == NOON + HOUR / 12
    at_once = advance(wait_for(quiet, HOUR), AT_WAIT, bought, NOON + HOUR)
    assert at_once.visits[0].reason == "came"


def test_an_event_counts_from_the_entry_or_from_the_arrival_on() -> None:
    since_entry, since_step = (wait_for(Happened(event_name="buy", after=after)) for after in (After.ENTRY, After.STEP))

    def reason(version: JourneyVersion, last: datetime) -> str | None:
        visits = advance(version, AT_WAIT, known(happened={"step:wait": last}), NOON + HOUR).visits
        return visits[0].reason if visits else None

    assert reason(since_entry, NOON - HOUR) == "came"
    assert reason(since_step, NOON - HOUR) is None
    assert reason(since_step, NOON) is None
    assert reason(since_step, NOON + TICK) == "came"
    other = known(happened={"step:other": NOON + HOUR})
    assert advance(since_entry, AT_WAIT, other, NOON + HOUR).still_waiting


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"x": None}), ({"x": None}, {}), ({"x": None}, {"x": 1}), ({"x": 1}, {"x": 2}), ({"x": 1}, {"x": True}),
     ({"x": 1}, {"x": "1"}), ({"x": {"a": 1}}, {"x": {"a": 1, "b": None}}), ({"x": [1, 2]}, {"x": [2, 1]}),
     ({"x": 0.5}, {"x": 0.25}), ({"x": 1}, {})],
)  # fmt: skip
def test_a_change_is_another_value_than_on_arrival(before: dict[str, Any], after: dict[str, Any]) -> None:
    version = wait_for(Changed(path=("x",)))
    arrived = first_position(version, known(before), NOON)

    assert advance(version, arrived, known(before), NOON + HOUR).still_waiting
    assert advance(version, arrived, known(after), NOON + HOUR).visits[0].reason == "came"


@pytest.mark.parametrize(
    ("before", "after"),
    [({"x": 1}, {"x": 1.0}), ({"x": {"a": 1, "b": 2}}, {"x": {"b": 2.0, "a": 1}}), ({"x": [2**60]}, {"x": [2.0**60]}),
     ({"x": 1}, {"x": 1, "y": 2}), ({"x": 0}, {"x": -0.0})],
)  # fmt: skip
def test_the_same_value_written_otherwise_is_no_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    version = wait_for(Changed(path=("x",)))

    assert advance(version, first_position(version, known(before), NOON), known(after), NOON + HOUR).still_waiting


def test_each_wait_for_a_change_notes_the_value_of_its_own_arrival() -> None:
    version = journey(
        WaitFor(id="one", condition=Changed(path=("x",)), timeout=None, next="two", otherwise=""),
        WaitFor(id="two", condition=Changed(path=("x",)), timeout=None, next="bye", otherwise=""),
    )
    at_one = first_position(version, known({"x": 1}), NOON)

    first = advance(version, at_one, known({"x": 2}), NOON + HOUR)
    again = advance(version, first.position, known({"x": 2}), NOON + 2 * HOUR)
    back = advance(version, first.position, known({"x": 1}), NOON + 2 * HOUR)

    assert (first.position.step_id, first.position.since, len(first.visits)) == ("two", NOON + HOUR, 1)
    assert again.still_waiting
    assert [v.step_id for v in back.visits] == ["two", "bye"]


def test_a_wait_for_a_segment_that_is_gone_parks_also_past_its_timeout() -> None:
    version = wait_for(AnyOf(clauses=(PRO, InCohort(cohort_id="vip"))))

    parked = advance(version, AT_WAIT, known({"tier": "pro"}), NOON + 2 * DAY)
    mended = advance(version, AT_WAIT, known({"tier": "pro"}, known_cohorts=frozenset({"vip"})), NOON + 2 * DAY)

    assert parked.effect == Sleep(
        until=NOON + 2 * DAY + PARK_RECHECK, step_id="wait", why=Why.PARK, parked="segment_not_found"
    )
    assert mended.visits[0].reason == "came"


def test_parked_by_one_arm_a_branch_is_looked_at_when_time_could_turn_an_earlier_one() -> None:
    seen = Attribute(path=("seen",), operator=Operator.WITHIN, value=HOUR)
    arms = (Arm(id="seen", when=seen, next="bye"), Arm(id="vip", when=InCohort(cohort_id="vip"), next="bye"))
    version = journey(Branch(id="wait", arms=arms, otherwise="bye"))
    soon = known({"seen": "2026-03-03T12:05:00Z"})

    parked = advance(version, AT_WAIT, soon, NOON)
    taken = advance(version, AT_WAIT, soon, NOON + timedelta(minutes=5))

    assert slept_until(parked) == NOON + timedelta(minutes=5)
    assert taken.visits[0].reason == "seen"


def split(*weights: int, salt: str | None = None) -> Split:
    arms = tuple(SplitArm(id=f"a{n}", weight=weight, next="bye") for n, weight in enumerate(weights))
    return Split(id="split", arms=arms, salt=salt)


def arm(version: JourneyVersion, subject_id: str) -> str | None:
    decision = advance(version, Position(step_id="split", since=NOON), known(subject_id=subject_id), NOON)
    assert [v.step_kind for v in decision.visits] == ["split", "exit"]
    return decision.visits[0].reason


def test_a_split_divides_subjects_by_weight_and_each_always_alike() -> None:
    version = journey(split(1, 2, 7))
    subjects = [str(UUID(int=number)) for number in range(5000)]

    arms = {subject: arm(version, subject) for subject in subjects}
    shares = Counter(arms.values())

    assert arms == {subject: arm(version, subject) for subject in subjects}
    assert [round(shares[f"a{n}"] / 5000, 1) for n in range(3)] == [0.1, 0.2, 0.7]


def test_splits_of_one_salt_divide_alike_and_others_in_their_own_way() -> None:
    subjects = [f"u{number}" for number in range(400)]
    salted = journey(split(1, 1, salt="summer"))
    elsewhere = replace(salted, journey_id="k")
    own, own_elsewhere = journey(split(1, 1)), replace(journey(split(1, 1)), journey_id="k")

    assert [arm(salted, s) for s in subjects] == [arm(elsewhere, s) for s in subjects]
    alike = sum(arm(own, s) == arm(own_elsewhere, s) for s in subjects)
    assert 150 < alike < 250


def test_a_weight_that_grows_moves_nobody_but_into_its_arm() -> None:
    subjects = [f"u{number}" for number in range(1000)]
    before, after = journey(split(50, 50)), journey(split(60, 40))

    moved = {(arm(before, s), arm(after, s)) for s in subjects}

    assert moved == {("a0", "a0"), ("a1", "a1"), ("a1", "a0")}
