"""Instants and lengths of time as messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def from_timestamp(message: Timestamp) -> datetime:
    """The instant, in UTC, to the microsecond."""
    return message.ToDatetime(UTC)


def to_duration(length: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(length)
    return message
