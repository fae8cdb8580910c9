"""Everything that is kept about a person, exported page by page."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from orchestrator.application.subjects import unknown
from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import SUBJECT_EXPORTED
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Scope
from orchestrator.domain.subject import subject_hash
from orchestrator.storage import audit, clock, exporting, subjects
from orchestrator.storage.exporting import Kept, Place

#: How long the pages of an export may be asked for.
GOES_ON_FOR = timedelta(days=1)

#: A page ends with the record by which it is so large, in bytes of JSON.
MAX_PAGE_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An export whose first pages were read: when it began, and where the last of them ended."""

    at: datetime
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPage:
    """`end` None: there is no more."""

    subject_id: str
    at: datetime
    records: list[Kept]
    end: Begun | None


async def page(
    transactions: Transactions, scope: Scope, secret: bytes, subject_id: str, after: Begun | None, limit: int
) -> ExportPage:
    """At most `limit` records about the person with this id, or one that was merged into it, from where a page ended.

    The first page (`after` None) is written into the audit log before anything is read. Raises NotFound
    SUBJECT_NOT_FOUND, and InvalidArgument PAGE_TOKEN_INVALID for a page of an export that this actor has not begun, or
    that cannot go on.
    """
    at = after.at if after is not None else await _begin(transactions, scope, secret, subject_id)
    async with transactions.snapshot(scope.project_no) as conn:
        if (found := await subjects.find(conn, scope.project_no, subject_id)) is None:
            raise unknown(subject_id)
        key, subject = found
        refs = [subject_hash(secret, scope.project_id, each_id) for each_id in (subject.subject_id, *subject.alias_ids)]
        is_late = await clock.now(conn) - at > GOES_ON_FOR
        if is_late or not await exporting.goes_on(conn, key, refs[0], scope.actor, at):
            raise cannot_go_on()
        records: list[Kept] = []
        size = 0
        end = None
        # One more, to learn whether there is one.
        wanted = exporting.records(
            conn, key, refs, at=at, after=after.place if after is not None else None, limit=limit + 1
        )
        async with aclosing(wanted):
            async for record in wanted:
                if len(records) == limit or size >= MAX_PAGE_BYTES:
                    end = Begun(at=at, place=records[-1].place)
                    break
                records.append(record)
                size += len(orjson.dumps(record.values, default=str))
    return ExportPage(subject_id=subject.subject_id, at=at, records=records, end=end)


def cannot_go_on() -> InvalidArgument:
    message = "not a token of an export that can go on: start from the first page"
    return InvalidArgument.of("pageToken", "PAGE_TOKEN_INVALID", message)


async def _begin(transactions: Transactions, scope: Scope, secret: bytes, subject_id: str) -> datetime:
    """Write down who exports whom, and from when on."""
    async with transactions.write(scope.project_no) as conn:
        if (found := await subjects.find(conn, scope.project_no, subject_id)) is None:
            raise unknown(subject_id)
        now = await clock.now(conn)
        await audit.append(
            conn,
            project_no=scope.project_no,
            at=now,
            actor=scope.actor,
            action=SUBJECT_EXPORTED,
            resource_id=subject_hash(secret, scope.project_id, found[1].subject_id),
        )
    return now
