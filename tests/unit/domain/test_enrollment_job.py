"""How fast a job that enrolls a crowd may go, and how many it looks at for a page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.enrollment_job import FEWEST, MAKE_UP, MOST, Crowd, EnrollmentJob, JobState
from orchestrator.domain.scope import SubjectKey

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
PAGE = 100


def job(rate: int | None, *, looked_at: int = 0, enrolled: int = 0, errors: int = 0) -> EnrollmentJob:
    return EnrollmentJob(
        job_id="j",
        journey_id="welcome",
        crowd=Crowd(),
        rate=rate,
        state=JobState.RUNNING,
        reason=None,
        place=SubjectKey(project_no=1, bucket=-1, subject_no=0),
        paced_to=START,
        next_at=START,
        created_by="key:k",
        revision=1,
        created_at=START,
        updated_at=START,
        looked_at=looked_at,
        enrolled=enrolled,
        errors=errors,
    )


@pytest.mark.parametrize("rate", [1, 3, 7, 50, 99, 1000, 10_000])
def test_whoever_looks_when_it_is_worthwhile_keeps_the_rate_to_the_entry(rate: int) -> None:
    running, entered, now = job(rate), 0, START

    while entered < 20 * rate and now < START + timedelta(seconds=19):
        allowed = running.allowance(now, PAGE)
        entered += allowed
        paced_to, next_at = running.paced(now, allowed, PAGE)
        running = replace(running, paced_to=paced_to, next_at=next_at)
        assert entered <= rate * (now - START).total_seconds() + 1
        now = max(now, next_at)

    assert entered == pytest.approx(19 * rate, abs=PAGE + 1)


@pytest.mark.parametrize("late", [0.3, 1.0, 4.9])
def test_who_comes_late_makes_up_for_it(late: float) -> None:
    running = job(100)

    allowed = running.allowance(START + timedelta(seconds=late), 10_000)

    assert allowed == round(100 * late)


def test_what_was_missed_long_ago_is_not_made_up_for() -> None:
    running, now = job(100), START + timedelta(hours=1)

    allowed = running.allowance(now, 10_000)
    paced_to, _ = running.paced(now, allowed, PAGE)

    assert allowed == 100 * MAKE_UP.total_seconds()
    assert paced_to == now


def test_no_rate_allows_a_page_at_any_time() -> None:
    assert job(None).allowance(START, PAGE) == PAGE
    assert job(None).paced(START, PAGE, PAGE) == (START, START)


def test_a_look_is_as_wide_as_the_crowd_is_thin() -> None:
    assert job(None).outlook(PAGE) == PAGE
    assert job(None, looked_at=1000).outlook(PAGE) == 1000  # nobody found: twice as far each time
    assert job(None, looked_at=10**6).outlook(PAGE) == MOST
    assert job(None, looked_at=1000, enrolled=1000).outlook(10) == FEWEST
    assert job(None, looked_at=1000, enrolled=100).outlook(PAGE) == 1250


def test_as_many_are_held_as_it_takes_for_so_many_to_get_in() -> None:
    assert job(None).candidates(5, PAGE) == 5
    assert job(None, enrolled=50, errors=50).candidates(5, PAGE) == 10
    assert job(None, enrolled=1, errors=99).candidates(5, PAGE) == PAGE
    assert job(None, errors=99).candidates(5, PAGE) == PAGE
