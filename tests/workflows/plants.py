"""Words that occur nowhere else, one for each field of what authors and callers write, and a place to look for them."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Iterable, Iterator

from google.api.field_behavior_pb2 import OUTPUT_ONLY
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from orchestrator.api.descriptors import behaves, message_in
from tests.workflows.payloads import payloads_in

#: Messages that are values, and whose own fields are no fields of the contract.
VALUES = frozenset({"google.protobuf.Struct", "google.protobuf.Value", "orchestrator.v1.JourneyGraph"})
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")


class Plants:
    """Makes words, and finds them again. What they are called is for who reads a failure."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}

    def word(self, name: str) -> str:
        """One of its own for each name, the same each time; fit for ids, paths and texts."""
        return self._words.setdefault(name, f"x{uuid.uuid4().hex[:14]}")

    def found_in(self, readings: Iterable[bytes]) -> set[str]:
        """The names of the words that occur in any of these, in whichever case."""
        text = b"\n".join(readings).lower()
        return {name for name, word in self._words.items() if word.encode() in text}

    def fields_planted(self, message: Message) -> set[str]:
        """The full names of the fields of this message, at any depth, that hold a word."""
        planted = set()
        for field, value in message.ListFields():
            inside = field.message_type
            if inside is None or inside.full_name in VALUES:
                members = value if field.is_repeated else [value]
                text = " ".join(MessageToJson(one) if isinstance(one, Message) else str(one) for one in members)
                if any(word in text for word in self._words.values()):
                    planted.add(str(field.full_name))
            else:
                for one in value if field.is_repeated else [value]:
                    planted |= self.fields_planted(one)
        return planted


def text_fields(*kinds: Descriptor) -> set[str]:
    """The full names of all fields in which callers of these messages can write text of their own, at any depth: no
    numbers, truths, enums, durations or instants, and nothing of the server's.
    """
    pending, seen, names = list(kinds), {kind.full_name for kind in kinds}, set()
    while pending:
        for field in pending.pop().fields:
            if behaves(field, OUTPUT_ONLY):
                continue
            inside = field.message_type
            if field.type == FieldDescriptor.TYPE_STRING or (inside is not None and inside.full_name in VALUES):
                names.add(str(field.full_name))
            elif inside is not None and inside.full_name.startswith("orchestrator.") and inside.full_name not in seen:
                seen.add(inside.full_name)
                pending.append(message_in(field))
    return names


def readings_of(message: Message) -> Iterator[bytes]:
    """All that can be read in what Temporal holds: its bytes, its JSON, and what either holds in base64."""
    yield message.SerializeToString()
    yield MessageToJson(message).encode()
    for payload in payloads_in(message):
        yield payload.data
        for found in _BASE64.findall(payload.data):
            try:
                yield base64.b64decode(found, altchars=b"-_" if b"-" in found or b"_" in found else None)
            except binascii.Error:
                continue
