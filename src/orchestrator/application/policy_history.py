"""What branches have learned and chosen so far, as people look at it: versions of policies, and the log of choices."""

from __future__ import annotations

from asyncpg import Connection, Record

from orchestrator.application.branch_performance import branch_of
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.storage import arm_choice_log, policy_log, subjects
from orchestrator.storage.arm_choice_log import Logged, Place
from orchestrator.storage.policy_log import PolicyVersion


async def versions(
    conn: Connection[Record], scope: Scope, journey_id: str, step_id: str, below: int | None, limit: int
) -> tuple[list[PolicyVersion], int | None]:
    """Versions of a branch's policy, newest first, and the number with which the page ends; None: it is the last.

    Raises NotFound: JOURNEY_NOT_FOUND, BRANCH_NOT_FOUND.
    """
    await branch_of(conn, scope, journey_id, step_id)
    found = await policy_log.page(conn, scope.project_no, journey_id, step_id, below, limit + 1)
    return found[:limit], found[limit - 1].policy_version if len(found) > limit else None


async def version(
    conn: Connection[Record], scope: Scope, journey_id: str, step_id: str, policy_version: int
) -> PolicyVersion:
    """One version of a branch's policy, whole.

    Raises NotFound: JOURNEY_NOT_FOUND, BRANCH_NOT_FOUND, POLICY_VERSION_NOT_FOUND.
    """
    await branch_of(conn, scope, journey_id, step_id)
    found = await policy_log.find(conn, scope.project_no, journey_id, step_id, policy_version)
    if found is None:
        raise NotFound(
            "POLICY_VERSION_NOT_FOUND",
            f"the branch {step_id} of journey {journey_id} has no policy {policy_version}",
            journeyId=journey_id,
            stepId=step_id,
            policyVersion=str(policy_version),
        )
    return found


async def choices(
    conn: Connection[Record],
    scope: Scope,
    journey_id: str,
    step_id: str,
    subject_id: str | None,
    after: Place | None,
    limit: int,
) -> tuple[list[Logged], Place | None]:
    """Choices at a branch, newest first, and where the page ends. Of an id that was merged into another subject, that
    one's.

    Raises NotFound: JOURNEY_NOT_FOUND, BRANCH_NOT_FOUND, SUBJECT_NOT_FOUND.
    """
    await branch_of(conn, scope, journey_id, step_id)
    key: SubjectKey | None = None
    if subject_id is not None:
        key = (await subjects.find_keys(conn, scope.project_no, [subject_id])).get(subject_id)
        if key is None:
            raise NotFound("SUBJECT_NOT_FOUND", "there is no such subject", subjectId=subject_id)
    found = await arm_choice_log.page(conn, scope.project_no, journey_id, step_id, key, after, limit + 1)
    return found[:limit], found[limit - 1].place if len(found) > limit else None
