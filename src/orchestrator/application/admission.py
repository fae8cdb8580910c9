"""Letting subjects in: the enrollment, the execution with its first decision, and what Temporal is to be told,
together.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.effects import state_of
from orchestrator.application.versions import Prepared
from orchestrator.domain.advance import Known, advance
from orchestrator.domain.entry import Trigger
from orchestrator.domain.execution import Position
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import enrollments, executions, facts, outbox
from orchestrator.storage.enrollments import Enrollment
from orchestrator.storage.executions import NewExecution
from orchestrator.storage.outbox import Entry
from orchestrator.temporal.contract import workflow_id


class Admissions:
    """Those admitted in one transaction. Its caller holds the subjects' locks and has asked the gates."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._enrollments: list[Enrollment] = []
        self._executions: list[NewExecution] = []
        self._subject_ids: list[tuple[str, str]] = []  # (project_id, subject_id) of each execution

    def admit(
        self,
        *,
        key: SubjectKey,
        project_id: str,
        prepared: Prepared,
        goal_revision: int,
        entry_kind: str,
        entry_key: str,
        trigger: Trigger,
        known: facts.Known,
    ) -> None:
        """Take this subject in, on this version, and decide its first effect."""
        enrollment_id = new_uuid()
        version = prepared.version
        entry = dict(trigger.properties)
        self._enrollments.append(
            Enrollment(
                key=key,
                enrollment_id=enrollment_id,
                journey_id=version.journey_id,
                version=version.version,
                goal_revision=goal_revision,
                entry_kind=entry_kind,
                entry_key=entry_key,
                triggered_at=trigger.at,
                entry=entry,
                enrolled_at=self._now,
            )
        )
        first = Position(step_id=version.definition.first_step_id, since=self._now)
        decision = advance(
            version,
            first,
            Known(subject=replace(known.facts, entry=entry), consent=known.consent, started_at=self._now),
            self._now,
        )
        self._executions.append(
            NewExecution(
                key=key,
                execution_id=enrollment_id,
                journey_id=version.journey_id,
                version=version.version,
                workflow_id=workflow_id(
                    project_id=project_id,
                    journey_id=version.journey_id,
                    version=version.version,
                    subject_id=known.subject_id,
                    entry_key=entry_key,
                ),
                state=state_of(decision, 0, self._now),
                visits=decision.visits,
                started_at=self._now,
            )
        )
        self._subject_ids.append((project_id, known.subject_id))

    async def write(self, conn: Connection[Record]) -> list[Entry]:
        """Write them all; returns what Temporal is to be told after the commit."""
        await enrollments.insert(conn, self._enrollments)
        await executions.insert(conn, self._executions)
        told = [(new.key, new.execution_id, new.workflow_id) for new in self._executions]
        numbers = await outbox.insert(conn, "start", told, self._now)
        return [
            Entry(
                outbox_no=number,
                kind="start",
                key=new.key,
                project_id=project_id,
                subject_id=subject_id,
                journey_id=new.journey_id,
                version=new.version,
                execution_id=new.execution_id,
                workflow_id=new.workflow_id,
                effect=new.state.effect,
                attempts=0,
                created_at=self._now,
            )
            for number, new, (project_id, subject_id) in zip(numbers, self._executions, self._subject_ids, strict=True)
        ]
