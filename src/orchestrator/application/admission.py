"""Letting subjects in: the enrollment, the execution with its first decision, and what Temporal is to be told,
together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator.application.effects import state_of
from orchestrator.application.looking_back import Entrant, Past, look_back
from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.advance import Known, advance, first_position
from orchestrator.domain.conditions import Entry
from orchestrator.domain.entry import Trigger
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import enrollments, executions, facts, outbox
from orchestrator.storage.enrollments import Enrollment
from orchestrator.storage.executions import NewExecution
from orchestrator.storage.outbox import Entry as Told
from orchestrator.temporal.contract import workflow_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    enrollment: Enrollment
    prepared: Prepared
    known: facts.Known


class Admissions:
    """Those of one project admitted in one transaction. Its caller holds the subjects' locks and has asked the gates.

    `time_zone` is the project's.
    """

    def __init__(self, versions: Versions, *, project_no: int, project_id: str, time_zone: str, now: datetime) -> None:
        self._versions = versions
        self._project_no = project_no
        self._project_id = project_id
        self._time_zone = time_zone
        self._now = now
        self._admitted: list[_Admitted] = []

    def admit(
        self,
        *,
        key: SubjectKey,
        prepared: Prepared,
        goal_revision: int,
        entry_kind: str,
        entry_key: str,
        trigger: Trigger,
        known: facts.Known,
    ) -> None:
        """Take this subject in, on this version."""
        enrollment = Enrollment(
            key=key,
            enrollment_id=new_uuid(),
            journey_id=prepared.version.journey_id,
            version=prepared.version.version,
            goal_revision=goal_revision,
            entry_kind=entry_kind,
            entry_key=entry_key,
            triggered_at=trigger.at,
            entry=dict(trigger.properties),
            enrolled_at=self._now,
        )
        self._admitted.append(_Admitted(enrollment=enrollment, prepared=prepared, known=known))

    async def write(self, conn: Connection[Record]) -> list[Told]:
        """Decide the first effect of each, and write them all; returns what Temporal is to be told after the commit."""
        entrants = [await self._entrant(conn, one) for one in self._admitted]
        pasts = await look_back(conn, self._project_no, entrants)
        new = [
            self._execution(one, entrant, past)
            for one, entrant, past in zip(self._admitted, entrants, pasts, strict=True)
        ]
        await enrollments.insert(conn, [one.enrollment for one in self._admitted])
        await executions.insert(conn, new)
        told = [(execution.key, execution.execution_id, execution.workflow_id) for execution in new]
        numbers = await outbox.insert(conn, "start", told, self._now)
        return [
            Told(
                outbox_no=number,
                kind="start",
                key=execution.key,
                project_id=self._project_id,
                subject_id=one.known.subject_id,
                journey_id=execution.journey_id,
                version=execution.version,
                execution_id=execution.execution_id,
                workflow_id=execution.workflow_id,
                effect=execution.state.effect,
                attempts=0,
                created_at=self._now,
            )
            for number, execution, one in zip(numbers, new, self._admitted, strict=True)
        ]

    async def _entrant(self, conn: Connection[Record], one: _Admitted) -> Entrant:
        enrollment = one.enrollment
        return Entrant(
            key=enrollment.key,
            prepared=one.prepared,
            entry=Entry(key=enrollment.entry_key, at=enrollment.triggered_at),
            goal=await self._versions.goal(conn, self._project_no, one.prepared, enrollment.goal_revision),
        )

    def _execution(self, one: _Admitted, entrant: Entrant, past: Past) -> NewExecution:
        """The execution as its first decision leaves it."""
        enrollment, version = one.enrollment, one.prepared.version
        known = Known(
            subject=replace(one.known.facts, entry=enrollment.entry),
            consent=one.known.consent,
            started_at=self._now,
            subject_id=one.known.subject_id,
            time_zone=self._time_zone,
            happened=past.happened,
            goal_reached=past.goal_reached,
        )
        decision = advance(version, first_position(version, known, self._now), known, self._now)
        return NewExecution(
            key=enrollment.key,
            execution_id=enrollment.enrollment_id,
            journey_id=version.journey_id,
            version=version.version,
            workflow_id=workflow_id(
                project_id=self._project_id,
                journey_id=version.journey_id,
                version=version.version,
                subject_id=one.known.subject_id,
                entry_key=enrollment.entry_key,
            ),
            state=state_of(decision, 0, self._now, version, entrant.goal),
            visits=decision.visits,
            started_at=self._now,
        )
