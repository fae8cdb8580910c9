"""What the memo of an execution's workflow says: whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from temporalio.client import WorkflowExecution

from orchestrator.temporal.codec import missing_kid
from orchestrator.temporal.contract import ENROLLMENT_MEMO, SUBJECT_MEMO


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """`subject` is (project_no, bucket, subject_no). `missing_kid`: it needs a key that this process has not, and tells
    nothing without it.
    """

    execution_id: UUID | None = None
    subject: tuple[int, int, int] | None = None
    missing_kid: str | None = None


async def memo_of(found: WorkflowExecution) -> Memo:
    """Of a workflow that was listed or described; one that is not ours has nothing of it."""
    for name in (ENROLLMENT_MEMO, SUBJECT_MEMO):
        if name in found.raw_info.memo.fields:
            kid = missing_kid(found.data_converter, found.raw_info.memo.fields[name])
            if kid is not None:
                return Memo(missing_kid=kid)
    execution_id = await found.memo_value(ENROLLMENT_MEMO, default=None)
    subject = await found.memo_value(SUBJECT_MEMO, default=None)
    return Memo(
        execution_id=UUID(execution_id) if execution_id is not None else None,
        subject=tuple(subject) if subject is not None else None,
    )
