"""Requests with events that nobody has sent before, made for next to nothing: who calls shares the machine's cores with
whom he calls.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

from orchestrator.v1 import event_pb2, event_service_pb2

INGEST = "/orchestrator.v1.EventService/IngestEvents"

#: Events of a call: as callers send them that collect for a moment.
BATCH = 100
SUBJECTS = 5_000


def batches() -> Callable[[], bytes]:
    """One after the other, each about the next hundred of so many subjects."""
    series = uuid.uuid4().hex
    templates = itertools.cycle([_request(series, range(at, at + BATCH)) for at in range(0, SUBJECTS, BATCH)])
    # Of the same length, so that all around it stays as it is.
    return lambda: next(templates).replace(series.encode(), uuid.uuid4().hex.encode())


def _request(series: str, numbers: range) -> bytes:
    events = [
        event_pb2.Event(event_id=f"{series}-{number}", name="seen", subject_id=f"s{number}") for number in numbers
    ]
    return event_service_pb2.IngestEventsRequest(events=events).SerializeToString()
