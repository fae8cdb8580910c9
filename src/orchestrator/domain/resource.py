"""What people author, as it is kept: audiences, segments, communications, trigger contracts.

`Audience` and its like are what the author wrote; `Resource[Audience]` is that with what the project adds to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from orchestrator.predicates.canonical import canonical

Content = TypeVar("Content")
Other = TypeVar("Other")

_TICK = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[Content]):
    """`revision` and `updated_at` are raised by every change and nothing else; the latter by a millisecond at least."""

    id: str
    content: Content
    revision: int
    created_at: datetime
    updated_at: datetime


def member_of(kind: str, field: str) -> str:
    """A field of a resource of this kind (`segment`) as its JSON calls it."""
    if kind == "segment" and field == "predicate":
        return "rules"
    return re.sub("_([a-z])", lambda letter: letter[1].upper(), field)


def created(resource_id: str, content: Content, now: datetime) -> Resource[Content]:
    at = to_tick(now)
    return Resource(id=resource_id, content=content, revision=1, created_at=at, updated_at=at)


def changed(resource: Resource[Content], content: Content, now: datetime) -> Resource[Content]:
    """The resource with other content: one revision on."""
    return Resource(
        id=resource.id,
        content=content,
        revision=resource.revision + 1,
        created_at=resource.created_at,
        updated_at=later(resource.updated_at, now),
    )


def holding(resource: Resource[Content], content: Other) -> Resource[Other]:
    """The same resource seen with other content; nothing has changed."""
    return Resource(
        id=resource.id,
        content=content,
        revision=resource.revision,
        created_at=resource.created_at,
        updated_at=resource.updated_at,
    )


def to_tick(instant: datetime) -> datetime:
    """The millisecond an instant is in: how times of resources are kept, so that those who see milliseconds see all."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def later(updated_at: datetime, now: datetime) -> datetime:
    """When a change made `now` happened: at least a millisecond after the one before, whatever the clock says."""
    return max(to_tick(now), updated_at + _TICK)


def differ(before: object, after: object) -> bool:
    """Whether a field of a content has changed. In documents 1 and true are two things, which Python does not see, and
    1e17 and 100000000000000000 are one, of which the first comes from callers and the second from the database.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return canonical(before) != canonical(after)
    return before != after


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page of a list, newest first, ended."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Content]):
    """A part of a list of resources, newest first, and where it goes on; None: nowhere."""

    resources: tuple[Resource[Content], ...]
    end: Place | None
