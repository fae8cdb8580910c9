"""Who travels: a subject, its id, its bucket, its time zone, and the one form of its id that may be written down."""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from orchestrator.domain.attributes import merge_patch
from orchestrator.domain.etag import Expected
from orchestrator.domain.ids import ID, MAX_ID_LENGTH
from orchestrator.domain.resource import later
from orchestrator.predicates.faults import Fault

BUCKETS = 256

# Files of the time zone database that are no zones: the host's own choice, and what stands for none.
_NOT_ZONES = frozenset({"Factory", "localtime", "posixrules"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A stored subject. `revision` is raised by every change, and by nothing else. `alias_ids` were merged into it."""

    subject_id: str
    attributes: Mapping[str, Any]
    time_zone: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
    alias_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectPatch:
    """What a caller wants of a subject, which need not exist yet.

    `attributes` is a JSON merge patch (RFC 7396). `time_zone` None leaves it, empty removes it. `path` is where the
    caller wrote it.
    """

    subject_id: str
    attributes: Mapping[str, Any]
    time_zone: str | None = None
    expected: Expected = field(default_factory=Expected)
    path: str = ""


def together(given: Subject, kept: Subject, now: datetime) -> Subject:
    """`kept` as the one subject of both: of what both have its own stays, within objects too, and it is as old as the
    older one.
    """
    return replace(
        kept,
        attributes=merge_patch(given.attributes, kept.attributes),
        time_zone=kept.time_zone or given.time_zone,
        revision=kept.revision + 1,
        created_at=min(given.created_at, kept.created_at),
        updated_at=later(kept.updated_at, now),
        alias_ids=tuple(sorted({*given.alias_ids, *kept.alias_ids, given.subject_id})),
    )


def bucket_of(subject_id: str) -> int:
    """The subject's chunk of work, 0 to 255: the same in every process and language (CRC-32 of the UTF-8 text)."""
    return zlib.crc32(subject_id.encode()) & (BUCKETS - 1)


def is_subject_id(subject_id: str) -> bool:
    return ID.fullmatch(subject_id) is not None


def id_fault(subject_id: str, path: str) -> Fault | None:
    """What is wrong with a subject id; None when nothing is. `path` is where the caller wrote it."""
    if is_subject_id(subject_id):
        return None
    if not subject_id:
        return Fault(path=path, reason="REQUIRED", message="a subject id is required")
    if len(subject_id) > MAX_ID_LENGTH:
        return Fault(path=path, reason="TOO_LONG", message=f"a subject id has at most {MAX_ID_LENGTH} characters")
    return Fault(path=path, reason="INVALID_ID", message="a subject id consists of A-Z a-z 0-9 _ . : -")


def is_time_zone(name: str) -> bool:
    """Whether this is a zone of the IANA time zone database, by its exact name (`Europe/Berlin`)."""
    return name in _time_zones()


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones() - _NOT_ZONES)


def subject_hash(secret: bytes, project_id: str, subject_id: str) -> str:
    """The subject ref: what logs, metrics, traces and the audit log call a subject. 32 hexadecimal digits.

    The same person has another ref in another project and in another instance, and nobody without the secret can tell
    which ids stand behind refs.
    """
    # Neither kind of id can contain the separator.
    message = f"subject-ref\n{project_id}\n{subject_id}".encode()
    return hmac.digest(secret, message, "sha256")[:16].hex()
