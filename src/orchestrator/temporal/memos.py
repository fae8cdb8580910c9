"""What the memo of an execution's workflow says: whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from temporalio.client import WorkflowExecution

from orchestrator.temporal.codec import missing_kid
from orchestrator.temporal.contract import ENROLLMENT_MEMO, SUBJECT_MEMO

#: Of (project_no, bucket, subject_no), what the database's types hold.
_LARGEST = (2**31 - 1, 2**15 - 1, 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """`subject` is (project_no, bucket, subject_no). `missing_kid`: it needs a key that this process has not, and tells
    nothing without it.
    """

    execution_id: UUID | None = None
    subject: tuple[int, int, int] | None = None
    missing_kid: str | None = None


async def memo_of(found: WorkflowExecution) -> Memo:
    """Of a workflow that was listed or described. One that is not ours has nothing of it, whatever its memo holds:
    who looks through a list is not to be stopped by what a stranger wrote.
    """
    for name in (ENROLLMENT_MEMO, SUBJECT_MEMO):
        if name in found.raw_info.memo.fields:
            kid = missing_kid(found.data_converter, found.raw_info.memo.fields[name])
            if kid is not None:
                return Memo(missing_kid=kid)
    return Memo(
        execution_id=_execution_id(await _read(found, ENROLLMENT_MEMO)),
        subject=_subject(await _read(found, SUBJECT_MEMO)),
    )


async def _read(found: WorkflowExecution, name: str) -> Any:
    """None: it is not there, or nobody can read it."""
    try:
        return await found.memo_value(name, default=None)
    except Exception:
        # Converters raise what they like, and ours what it finds wrong. All of it is about these bytes.
        return None


def _execution_id(value: Any) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _subject(value: Any) -> tuple[int, int, int] | None:
    match value:
        case [int(), int(), int()] if all(0 <= n <= most for n, most in zip(value, _LARGEST, strict=True)):
            project_no, bucket, subject_no = value
            return project_no, bucket, subject_no
        case _:
            return None
