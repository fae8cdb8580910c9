"""Audiences: made, changed, deleted, and asked about one subject. Callers own the transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from orchestrator.application import authoring
from orchestrator.application.audience_book import AudienceBook
from orchestrator.application.predicates import predicate_faults
from orchestrator.domain import audit as actions
from orchestrator.domain.audience import Audience, faults_in
from orchestrator.domain.etag import Expected
from orchestrator.domain.refusals import FailedPrecondition, NotFound
from orchestrator.domain.resource import Page, Place, Resource
from orchestrator.domain.scope import Scope
from orchestrator.predicates.check import unknown_cohorts
from orchestrator.predicates.explain import explain
from orchestrator.predicates.faults import Fault
from orchestrator.storage import catalog, facts
from orchestrator.storage.audiences import audiences

AUDIENCE = authoring.Noun(
    name="audience",
    prefix="aud",
    store=audiences,
    created=actions.AUDIENCE_CREATED,
    updated=actions.AUDIENCE_UPDATED,
    deleted=actions.AUDIENCE_DELETED,
)


async def create(conn: Connection[Record], scope: Scope, audience_id: str, audience: Audience) -> Resource[Audience]:
    """Make an audience. Raises InvalidArgument with all faults, and AlreadyExists."""
    return await authoring.create(conn, scope, AUDIENCE, audience_id, audience, _check)


async def get(conn: Connection[Record], scope: Scope, audience_id: str) -> Resource[Audience]:
    """Raises NotFound."""
    return await authoring.get(conn, scope, AUDIENCE, audience_id)


async def page(conn: Connection[Record], scope: Scope, after: Place | None, limit: int) -> Page[Audience]:
    """Newest first."""
    return await authoring.page(conn, scope, AUDIENCE, after, limit)


async def update(
    conn: Connection[Record], scope: Scope, audience_id: str, changes: Mapping[str, Any], expected: Expected
) -> Resource[Audience]:
    """Set the named fields. Raises NotFound, Conflict, InvalidArgument."""
    return await authoring.update(
        conn, scope, AUDIENCE, audience_id, lambda before: replace(before, **changes), expected, _check
    )


async def delete(conn: Connection[Record], scope: Scope, audience_id: str, expected: Expected) -> None:
    """Journeys may go on naming it: entries into them are refused from now on. Raises NotFound, Conflict."""
    await authoring.delete(conn, scope, AUDIENCE, audience_id, expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a subject belongs to an audience at one instant; `explanation` is what predicates/explain.py says."""

    matches: bool
    explanation: Mapping[str, Any]
    at: datetime


async def check(
    conn: Connection[Record], scope: Scope, book: AudienceBook, audience_id: str, subject_id: str
) -> Verdict:
    """Ask about one subject. Of its attributes the project's shown fields have their values shown.

    Raises NotFound, and FailedPrecondition COHORT_NOT_FOUND when the predicate names a segment that is gone.
    """
    project = (await catalog.current(conn, [scope.project_no]))[scope.project_no]
    asked = await book.of(conn, project, audience_id)
    if asked is None:
        raise AUDIENCE.not_found(audience_id)
    known = await facts.find(conn, scope.project_no, subject_id, asked.needs)
    if known is None:
        raise NotFound("SUBJECT_NOT_FOUND", "there is no such subject", subjectId=subject_id)
    if gone := unknown_cohorts(asked.predicate, known.facts.known_cohorts, "predicate"):
        raise FailedPrecondition(
            "COHORT_NOT_FOUND", "the predicate names segments that do not exist", gone, audienceId=audience_id
        )
    explanation = explain(asked.predicate, known.facts, project.now, reveal=project.settings.reveal)
    return Verdict(matches=explanation["truth"], explanation=explanation, at=project.now)


async def _check(
    conn: Connection[Record], project_no: int, audience: Audience, changed: Collection[str]
) -> list[Fault]:
    faults = faults_in(audience, "")
    if "predicate" in changed:
        faults += await predicate_faults(conn, project_no, audience.predicate, "predicate")
    return faults
