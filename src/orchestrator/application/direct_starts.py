"""Starting one execution at somebody's word: an entry like any other, decided on now, for good, under a key that the
caller gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection, Record

from orchestrator.application.holding import Holding
from orchestrator.application.journeys import not_active, not_found
from orchestrator.application.letting_in import Candidate, let_in
from orchestrator.application.listeners import Listener, deaf_listener, listener_of
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import JOURNEY_ENROLLED
from orchestrator.domain.entry import EntryRefusal, Trigger, TriggerContract, refuse_date, refuse_trigger
from orchestrator.domain.journey import JourneyStatus
from orchestrator.domain.refusals import FailedPrecondition, NotFound
from orchestrator.domain.scope import Scope
from orchestrator.predicates.faults import Fault
from orchestrator.storage import audit, catalog, clock, enrollments, inbox_entries, journeys, refusal_counts, subjects
from orchestrator.storage.outbox import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """The event that is said to start an execution. Empty: not said. `occurred_at` None means: now."""

    event_id: str = ""
    name: str = ""
    occurred_at: datetime | None = None
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What came of an entry. `refused` says why the subject was not let in; else `enrollment_id` is the execution's id,
    unless it is `held_out`. `already`: it was let in before, under this key. `told` is for Temporal, after the commit;
    `created` whether consumers of the inbox hear of a new subject.
    """

    refused: EntryRefusal | None = None
    held_out: bool = False
    already: bool = False
    version: int = 0
    enrollment_id: UUID | None = None
    workflow_id: str = ""
    created: bool = False
    told: Sequence[Notice] = ()


async def start(
    conn: Connection[Record],
    scope: Scope,
    versions: Versions,
    *,
    journey_id: str,
    subject_id: str,
    entry_key: str,
    happening: Happening,
) -> Started:
    """Let this subject into this journey, if the checks of an entry do; one that is not known is created.

    Raises NotFound JOURNEY_NOT_FOUND, and FailedPrecondition JOURNEY_NOT_ACTIVE (never published, or archived) or
    EVENT_NOT_HEARD.
    """
    project_no = scope.project_no
    keys, created = await subjects.ensure_locked(conn, project_no, {subject_id}, await clock.now(conn))
    key = keys[subject_id]
    # Read under the lock: whoever asks the same at the same time waits until it is decided.
    before = await enrollments.newest(conn, key, journey_id, entry_keys=[entry_key], limit=1)
    if before:
        return _entered(before[0], already=True)
    project = (await catalog.current(conn, [project_no]))[project_no]
    status = (await journeys.keep_open(conn, project_no, [journey_id])).get(journey_id)
    listener = await _listener(conn, versions, project_no, journey_id)
    if listener is None or status is None:
        raise await _unstartable(conn, project_no, journey_id)
    _require_heard(listener, happening)
    now = project.now
    # Whoever keeps something about every subject hears of the new one.
    await inbox_entries.add(conn, [keys[one] for one in created], "attributes", now)
    trigger = Trigger(
        at=now if happening.occurred_at is None else min(happening.occurred_at, now),
        event_id=happening.event_id or entry_key,
        properties=happening.properties,
    )
    refused = _refuse_outright(listener, trigger, status, now)
    told: Sequence[Notice] = ()
    if refused is None:
        met: list[EntryRefusal] = []
        candidate = Candidate(
            key=key, listener=listener, kind="event", trigger=trigger, entry_key=entry_key, at_once=True
        )
        # An entry of this key that waits is refused as a repetition, once it is decided.
        told = await let_in(conn, versions, project, [candidate], Holding(()), lambda _, reason: met.append(reason))
        refused = met[0] if met else None
    await audit.append(
        conn,
        project_no=project_no,
        at=now,
        actor=scope.actor,
        action=JOURNEY_ENROLLED,
        resource_id=journey_id,
        metadata={"enrolled": int(refused is None), "skipped": int(refused is not None), "errors": 0},
    )
    if refused is not None:
        slot = refusal_counts.slot(project_no, journey_id, refused.value, now, key.bucket)
        await refusal_counts.add(conn, {slot: 1})
        return Started(refused=refused, created=bool(created))
    [entered] = await enrollments.newest(conn, key, journey_id, entry_keys=[entry_key], limit=1)
    return replace(_entered(entered), created=bool(created), told=told)


async def _listener(conn: Connection[Record], versions: Versions, project_no: int, journey_id: str) -> Listener | None:
    """How the newest version of the journey listens, if there is one."""
    row = await catalog.listens(conn, project_no, journey_id)
    if row is not None:
        return await listener_of(conn, versions, project_no, row)
    return await deaf_listener(conn, versions, project_no, journey_id)


async def _unstartable(conn: Connection[Record], project_no: int, journey_id: str) -> NotFound | FailedPrecondition:
    journey = await catalog.entered_by_hand(conn, project_no, journey_id, hold=False)
    if journey is None:
        return not_found(journey_id)
    return not_active(journey_id, journey.status)


def _require_heard(listener: Listener, happening: Happening) -> None:
    contract = listener.contract
    if not happening.name or not isinstance(contract, TriggerContract) or contract.event_name == happening.name:
        return
    text = f"journey {listener.journey_id} starts on {contract.event_name}"
    raise FailedPrecondition(
        "EVENT_NOT_HEARD",
        text,
        [Fault(path="event.name", reason="EVENT_NOT_HEARD", message=text)],
        journeyId=listener.journey_id,
        eventName=contract.event_name,
    )


def _refuse_outright(listener: Listener, trigger: Trigger, status: JourneyStatus, now: datetime) -> EntryRefusal | None:
    """What stands against the entry whoever the subject is."""
    contract = listener.contract
    if isinstance(contract, TriggerContract):
        # Where its key would be read from does not matter: the caller has given one.
        reason = refuse_trigger(replace(contract, entry_key_path=()), trigger, now)
        if reason is not None:
            return reason
    if status is JourneyStatus.PAUSED:
        return refuse_date(listener.version, now) or EntryRefusal.JOURNEY_PAUSED
    return None


def _entered(enrollment: enrollments.Entered, *, already: bool = False) -> Started:
    held_out = enrollment.held_out_by is not None
    return Started(
        held_out=held_out,
        already=already,
        version=enrollment.version,
        enrollment_id=None if held_out else enrollment.enrollment_id,
        workflow_id=enrollment.workflow_id or "",
    )
