"""One bad call, and what is said of fields that can be wrong in more than one form.

A case that says nothing of a kind of field is left out for it: `CASES` says which ones mean what.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from orchestrator.api.descriptors import owner_of
from orchestrator.api.field_limits import Bytes, Characters, Id, text_limit
from tests.acceptance.raw_calls import HttpRequest
from tests.acceptance.request_fields import PREDICATE, Place

CASES = {
    "wrong type": "every field",
    "too long": "every field in JSON; texts on the wire",
    "too deep": "every field in JSON; predicates and objects of free form on the wire",
    "NUL": "every field in JSON and in URLs; texts on the wire",
    "lone surrogate": "every field in JSON and in URLs; texts on the wire",
    "not a number": "every field in JSON; numbers and words in queries; numbers of free form on the wire",
    "beyond 2^53": "every field in JSON; numbers and words in queries; numbers on the wire",
    "year 99999": "times",
    "before 1900": "times",
    "unknown word": "enums, and texts that are words: channels, operators, kinds, zones",
    "unknown field": "messages, and the request itself",
    "page token": "page tokens: garbage, of another list, of another page of the same list's arguments",
    "stale etag": "etags and times of change, in requests and in If-Match",
    "other project": "ids of what another project has: refused as if there were no such thing",
    "huge": "lists, objects of free form, and the request itself",
    "twice": "every member of JSON and parameter of a query; every field on the wire",
    "both of a oneof": "members of oneofs",
    "empty": "what is required",
}

HTTP, GRPC = "http", "grpc"
TRUNCATED = "2^53 + 1 as a varint"
MALFORMED = "MALFORMED_REQUEST"

#: Fields whose texts are words.
WORDS = frozenset(
    {"Communication.channel", "Audience.subject_type", "Subject.time_zone", "ProjectSettings.time_zone"}
    | {"AttributeLeaf.operator"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One bad call. `at`: the path by which its fault is told, or None where no field is at fault.

    `reasons`: those that may be told of it; none are named where the language of predicates decides.
    """

    rpc: MethodDescriptor
    place: Place | None
    case: str
    label: str
    transport: str
    request: HttpRequest | bytes
    at: str | None
    reasons: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset({"INVALID_ARGUMENT"})
    #: For page tokens: the list that gave it, if one did.
    token_of: str = ""
    #: For ids: the same call with an id that nothing has; the answers must not differ otherwise.
    twin: HttpRequest | bytes | None = None

    def __str__(self) -> str:
        where = self.place.name if self.place is not None else f"{self.rpc.name} (as a whole)"
        return f"{where} | {self.case} | {self.label} | {self.transport}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What tests know of the project that is called, and of another one. Ids are by the kind of thing.

    `absent` has as many characters as the foreign id, and is nowhere.
    """

    foreign: dict[str, str]
    stale: dict[str, str]
    stale_times: dict[str, str]
    tokens: dict[str, str]

    def absent(self, kind: str) -> str:
        return "absent".ljust(len(self.foreign[kind]), "-")


def full_name(place: Place) -> str:
    return f"{owner_of(place.field).name}.{place.field.name}"


def is_language(place: Place) -> bool:
    return place.in_predicate or place.kind == PREDICATE


def too_long(place: Place) -> str:
    match text_limit(place.field):
        case Id():
            return "a" * 129
        case Characters(most):
            return "é" * (most + 1)
        case Bytes(most):
            return "é" * (most // 2) + "ab"


def others_in_oneof(place: Place) -> list[FieldDescriptor]:
    """The other members of the field's oneof; none for what is merely optional."""
    oneof = place.field.containing_oneof
    return [] if oneof is None else [other for other in oneof.fields if other.number != place.field.number]


def joined(path: str, further: str) -> str:
    if not path or not further:
        return path or further
    return f"{path}{further}" if further.startswith("[") else f"{path}.{further}"


def short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}… ({len(text):,} characters)"
