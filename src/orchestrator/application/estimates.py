"""How many subjects belong to an audience, as far as can be found out in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg import Connection, QueryCanceledError, Record

from orchestrator.application import audiences
from orchestrator.application.segment_rules import RuleBook, stored_rules
from orchestrator.domain.estimate import Estimate, estimate
from orchestrator.domain.refusals import FailedPrecondition, Unavailable
from orchestrator.domain.scope import Scope
from orchestrator.domain.subject import BUCKETS
from orchestrator.predicates.evaluate import Missing
from orchestrator.predicates.facts import needs
from orchestrator.predicates.sql import query
from orchestrator.predicates.tree import Predicate
from orchestrator.storage import derived_events, estimates
from orchestrator.storage.event_names import numbers_of

#: What an estimate may take.
BUDGET = timedelta(seconds=2)

#: Subjects named.
SAMPLE = 10

#: Buckets of the first look; each look that is quick doubles the next.
FIRST_STEP = 1

#: The number of the only question.
_ASKED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """`evaluated` is how many subjects were looked at, `sample` the ids of some who belong."""

    estimate: Estimate
    evaluated: int
    sample: Sequence[str]
    at: datetime


async def of_audience(conn: Connection[Record], scope: Scope, rule_book: RuleBook, audience_id: str) -> Audience:
    """`of_predicate` of this audience; raises NotFound, too."""
    predicate = stored_rules((await audiences.get(conn, scope, audience_id)).content.predicate)
    return await of_predicate(conn, scope.project_no, rule_book, predicate, audience_id=audience_id)


async def of_predicate(
    conn: Connection[Record], project_no: int, rule_book: RuleBook, predicate: Predicate, *, audience_id: str = ""
) -> Audience:
    """Look at bucket after bucket until all were looked at, or time is up. The transaction's settings change.

    `audience_id` is whose predicate it is, if anybody's. Raises FailedPrecondition COHORT_NOT_FOUND, FailedPrecondition
    EVENTS_BEING_COUNTED while the past of a kind of event is being counted that it asks about, and Unavailable
    ESTIMATE_TOO_SLOW when time was up before the first bucket was done.
    """
    until = time.monotonic() + BUDGET.total_seconds()
    rules, now = await rule_book.current(conn, project_no)
    asked = rules.cohorts.inline(predicate)
    sources = needs([asked]).events
    if behind := await derived_events.uncounted(conn, project_no) & sources.keys():
        names = ", ".join(sorted({str(source.name) for source in behind}))
        raise FailedPrecondition(
            "EVENTS_BEING_COUNTED",
            f"what it asks about these events is still being counted, try again later: {names}",
            audienceId=audience_id,
            eventNames=names,
        )
    numbers = await numbers_of(conn, project_no, sources)
    try:
        compiled = query.compile(
            {_ASKED: asked},
            name_nos={source: numbers.get(source) for source in sources},
            cohort_nos=rules.lists,
            as_of=now,
        )
    except Missing as missing:
        raise FailedPrecondition(
            "COHORT_NOT_FOUND", str(missing), audienceId=audience_id, cohortId=missing.id
        ) from None
    found: list[int] = []
    sample: list[str] = []
    evaluated, bucket, step = 0, 0, FIRST_STEP
    while bucket < BUCKETS and (rest := until - time.monotonic()) > 0:
        end = min(bucket + step, BUCKETS)
        began = time.monotonic()
        try:
            async with conn.transaction():  # a look that is cut off leaves the transaction usable
                counted = await estimates.count(
                    conn,
                    project_no,
                    bucket,
                    end - 1,
                    compiled,
                    sample=SAMPLE - len(sample),
                    within=timedelta(seconds=rest),
                )
        except QueryCanceledError:
            break
        evaluated += sum(counted.subjects)
        sample += counted.sample
        found += [*counted.found, *([0] * (end - bucket - len(counted.found)))]
        bucket = end
        if time.monotonic() - began < BUDGET.total_seconds() / 8:
            step *= 2
    if not found:
        raise Unavailable("ESTIMATE_TOO_SLOW", "nobody could be looked at in time; try again")
    return Audience(estimate=estimate(found, BUCKETS), evaluated=evaluated, sample=sample, at=now)
