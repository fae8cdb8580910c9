"""Letting subjects in: the enrollment, the execution with its first decision, and what Temporal is to be told,
together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from asyncpg import Connection, Record

from orchestrator import traces
from orchestrator.application.channel_turns import Rooms, waiting, waits_for
from orchestrator.application.effects import state_of
from orchestrator.application.looking_back import Entrant, Past, look_back
from orchestrator.application.versions import Prepared, Versions
from orchestrator.domain.advance import Known, advance, first_position
from orchestrator.domain.conditions import Entry
from orchestrator.domain.entry import Trigger
from orchestrator.domain.gates import FrequencyCap, Limits
from orchestrator.domain.holdout import held_out_by
from orchestrator.domain.ids import new_uuid
from orchestrator.domain.project import ProjectSettings
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import (
    channel_turns,
    conversions,
    enrollments,
    executions,
    facts,
    outbox,
    sends,
    sends_pauses,
)
from orchestrator.storage.channel_turns import Waiting
from orchestrator.storage.enrollments import Enrollment
from orchestrator.storage.executions import NewExecution
from orchestrator.storage.outbox import Notice
from orchestrator.temporal.contract import workflow_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    enrollment: Enrollment
    prepared: Prepared
    known: facts.Known
    behind: bool


class Admissions:
    """Those of one project admitted in one transaction. Its caller holds the subjects' locks and has asked the gates.

    `settings` are the project's; `sends_paused` has what sends nothing for now (storage/sends_pauses.py).
    """

    def __init__(
        self,
        versions: Versions,
        *,
        project_no: int,
        project_id: str,
        settings: ProjectSettings,
        sends_paused: Collection[str],
        now: datetime,
    ) -> None:
        self._versions = versions
        self._project_no = project_no
        self._project_id = project_id
        self._settings = settings
        self._sends_paused = sends_paused
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
        behind: bool = False,
    ) -> None:
        """Take this subject in, on this version; whoever is held out is let in, and goes nowhere. With `behind` it runs
        behind those for whom somebody waits.
        """
        version = prepared.version
        of_project = self._settings.global_holdout
        enrollment = Enrollment(
            key=key,
            enrollment_id=new_uuid(),
            journey_id=version.journey_id,
            version=version.version,
            goal_revision=goal_revision,
            entry_kind=entry_kind,
            entry_key=entry_key,
            triggered_at=trigger.at,
            entry=dict(trigger.properties),
            enrolled_at=self._now,
            hops=trigger.hops,
            global_percent=of_project.percent if of_project is not None else 0,
            global_salt=of_project.salt if of_project is not None else None,
            held_out_by=held_out_by(
                of_project,
                version.definition.holdout,
                project_id=self._project_id,
                journey_id=version.journey_id,
                subject_id=known.subject_id,
            ),
        )
        self._admitted.append(_Admitted(enrollment=enrollment, prepared=prepared, known=known, behind=behind))

    async def write(self, conn: Connection[Record]) -> list[Notice]:
        """Decide the first effect of each, and write them all; returns what Temporal is to be told after the commit."""
        exposed = [one for one in self._admitted if one.enrollment.held_out_by is None]
        entrants = [await self._entrant(conn, one) for one in exposed]
        pasts = await look_back(conn, self._project_no, entrants)
        paused: Collection[str] = ()
        if self._sends_paused:  # nobody is held by a pause that is over already
            journey_ids = {one.enrollment.journey_id for one in exposed}
            paused = await sends_pauses.hold(conn, self._project_no, journey_ids)
        asked: list[sends.Asked] = [(one.enrollment.key, None, None) for one in exposed]
        full = await sends.full(conn, self._project_no, asked, self._settings.frequency_caps, self._now)
        rates = self._settings.channel_rates
        turns = await channel_turns.find(conn, self._project_no) if rates and exposed else {}
        rooms = Rooms(rates, turns, self._now)
        queue: list[Waiting] = []
        new = [
            self._execution(one, entrant, past, self._limits(one, paused, met, rooms), rooms, queue)
            for one, entrant, past, met in zip(exposed, entrants, pasts, full, strict=True)
        ]
        await enrollments.insert(conn, [one.enrollment for one in self._admitted])
        await self._credit(conn)
        await executions.insert(conn, new)
        await channel_turns.join(conn, self._project_no, queue, self._now)
        told = [(execution.key, execution.execution_id, execution.workflow_id) for execution in new]
        numbers = await outbox.insert(conn, "start", told, self._now, behind=[one.behind for one in exposed])
        return [
            Notice(
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
                behind=one.behind,
                trace=traces.carried(execution.key),
            )
            for number, execution, one in zip(numbers, new, exposed, strict=True)
        ]

    @property
    def count(self) -> int:
        """How many are let in, held-out ones too."""
        return len(self._admitted)

    async def _credit(self, conn: Connection[Record]) -> None:
        """Credit what has happened since the triggers; held-out ones are measured as everybody else."""
        made = [one.enrollment for one in self._admitted if one.enrollment.triggered_at < self._now]
        entries = [
            (e.key, e.enrollment_id)
            for e in made
            if (await self._versions.measure(conn, self._project_no, e.journey_id, e.goal_revision)).event_name
        ]
        if entries:
            await conversions.look_back_at_entries(conn, self._project_no, entries)

    def _limits(
        self, one: _Admitted, paused: Collection[str], full: Mapping[FrequencyCap, datetime], rooms: Rooms
    ) -> Limits:
        is_paused = sends_pauses.ALL in paused or one.enrollment.journey_id in paused
        return Limits(paused=is_paused, quiet=self._settings.quiet_hours, full=full, crowded=rooms.crowded)

    async def _entrant(self, conn: Connection[Record], one: _Admitted) -> Entrant:
        enrollment = one.enrollment
        return Entrant(
            key=enrollment.key,
            prepared=one.prepared,
            entry=Entry(key=enrollment.entry_key, at=enrollment.triggered_at),
            goal=await self._versions.goal(conn, self._project_no, one.prepared, enrollment.goal_revision),
        )

    def _execution(
        self, one: _Admitted, entrant: Entrant, past: Past, limits: Limits, rooms: Rooms, queue: list[Waiting]
    ) -> NewExecution:
        """The execution as its first decision leaves it: with less room for others, or in the queue."""
        enrollment, version = one.enrollment, one.prepared.version
        known = Known(
            subject=replace(one.known.facts, entry=enrollment.entry),
            consent=one.known.consent,
            started_at=self._now,
            subject_id=one.known.subject_id,
            time_zone=self._settings.time_zone,
            limits=limits,
            happened=past.happened,
            goal_reached=past.goal_reached,
        )
        decision = advance(version, first_position(version, known, self._now), known, self._now)
        rooms.use(decision)
        if waits_for(decision, version) is not None:
            queue.append(waiting(decision, version, enrollment.enrollment_id, behind=one.behind))
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
