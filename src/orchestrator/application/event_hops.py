"""How far from outside events came that executions told, as it was when they were told (domain/entry.py, Trigger)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asyncpg import Connection, Record

from orchestrator.application.changing import EVENT_ID_PREFIX
from orchestrator.application.sending import idempotency_key
from orchestrator.domain.delivery import key_in
from orchestrator.domain.entry import hops_from
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage import deliveries, told_events
from orchestrator.storage.happenings import Occurred


async def hops_of(conn: Connection[Record], key: SubjectKey, events: Sequence[Occurred]) -> Mapping[str, int]:
    """Of those of these events of a subject, by id, that steps told or that are reports of messages; all others came
    from outside.
    """
    hops: dict[str, int] = {}
    told = {event.event_id: event for event in events if event.event_id.startswith(EVENT_ID_PREFIX)}
    if told:
        since = min(event.occurred_at for event in told.values())
        for teller in await told_events.tellers(conn, key, since):
            event_id = EVENT_ID_PREFIX + idempotency_key(teller.execution_id, teller.seq)
            if event_id in told:
                hops[event_id] = hops_from(teller.hops, teller.started_at, told[event_id].occurred_at)
    reported = [(event, name) for event in events if (name := key_in(event.event_id)) is not None]
    sends = await deliveries.by_key(conn, key.project_no, sorted({name for _, name in reported}))
    for event, name in reported:
        if (send := sends.get(name)) is not None:
            hops[event.event_id] = hops_from(send.hops, send.started_at, event.received_at)
    return hops
