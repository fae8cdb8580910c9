"""Events: what happens to subjects."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.convert.events import event_of, ingest_response
from orchestrator.application.inbox_bell import InboxBell
from orchestrator.application.ingest import Ingest
from orchestrator.application.time_slices import TimeSlice
from orchestrator.domain.event import Event, is_named, naming_faults
from orchestrator.predicates.faults import Fault
from orchestrator.v1 import event_service_pb2 as pb


class EventHandlers:
    def __init__(self, ingest: Ingest, bell: InboxBell) -> None:
        self._ingest = ingest
        self._bell = bell

    @own_transactions
    async def IngestEvents(self, request: pb.IngestEventsRequest, call: Call) -> pb.IngestEventsResponse:
        rejected: dict[int, Sequence[Fault]] = dict(call.item_faults)
        batch: dict[int, Event] = {}
        time = TimeSlice()
        for place, message in enumerate(request.events):
            if time.over:
                await time.next()
            if place in rejected:
                continue
            if is_named(message.event_id, message.name, message.subject_id):
                batch[place] = event_of(message)
            else:
                path = f"events[{place}]"
                rejected[place] = naming_faults(message.event_id, message.name, message.subject_id, path)
        outcomes = await self._ingest.take(
            call.scope.project_no,
            list(batch.values()),
            backfill=request.backfill,
            committed=lambda: call.after_commit(self._bell.ring),
        )
        return ingest_response(len(request.events), zip(batch, outcomes, strict=True), rejected)
