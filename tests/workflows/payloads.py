"""Every payload that a message of Temporal's holds, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, SearchAttributes
from temporalio.api.history.v1 import MarkerRecordedEventAttributes

#: What the SDK notes in markers about itself: names and numbers of activities, names of patches.
OF_THE_SDK = {"core_local_activity": {"data"}, "core_patch": {"patch-data"}}

#: What Temporal itself notes, of an activity that was canceled between two tries.
OF_TEMPORAL = b'"ACTIVITY_ID_NOT_STARTED"'


def payloads_in(message: Message) -> Iterator[Payload]:
    """Those that a codec sees: not search attributes, which Temporal has to read, not what the SDK notes for itself in
    markers, and not what Temporal writes.
    """
    if isinstance(message, Payload):
        if message.data != OF_TEMPORAL:
            yield message
        return
    if isinstance(message, SearchAttributes):
        return
    left_out = OF_THE_SDK.get(message.marker_name, ()) if isinstance(message, MarkerRecordedEventAttributes) else ()
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            members = [member for key, member in value.items() if key not in left_out]
            yield from (found for member in members if isinstance(member, Message) for found in payloads_in(member))
        elif field.is_repeated:
            yield from (found for member in value for found in payloads_in(member))
        else:
            yield from payloads_in(value)
