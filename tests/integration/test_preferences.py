"""Opt-outs and suppressions: kept, told, audited, and in force for whatever takes the subject's row afterwards."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from orchestrator.application import preferences as use_cases
from orchestrator.application import subjects as subject_use_cases
from orchestrator.application.transactions import Transactions
from orchestrator.domain.gates import ANY
from orchestrator.domain.preferences import OptOut, PreferenceChange, Suppression
from orchestrator.domain.refusals import NotFound
from orchestrator.domain.scope import Role, Scope, SubjectKey
from orchestrator.domain.subject import SubjectPatch, subject_hash
from orchestrator.storage import preferences, subjects

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record

SCOPE = Scope(project_no=1, project_id="default", actor="key:k1", role=Role.EDITOR)
SECRET = b"s" * 48


@pytest.fixture
def transactions(api_pool: Pool[Record]) -> Transactions:
    return Transactions(api_pool)


def out(channel: str, category: str) -> PreferenceChange:
    return PreferenceChange(channel=channel, category=category, opted_out=True)


def back(channel: str, category: str) -> PreferenceChange:
    return PreferenceChange(channel=channel, category=category, opted_out=False)


async def update(transactions: Transactions, *changes: PreferenceChange) -> list[OptOut]:
    async with transactions.write(1) as conn:
        return await use_cases.update(conn, 1, "user-1", changes)


async def suppress(transactions: Transactions, channel: str, reason: str) -> Suppression:
    async with transactions.write(1) as conn:
        return await use_cases.suppress(conn, SCOPE, SECRET, "user-1", channel=channel, reason=reason)


async def unsuppress(transactions: Transactions, channel: str) -> None:
    async with transactions.write(1) as conn:
        await use_cases.unsuppress(conn, SCOPE, SECRET, "user-1", channel=channel)


async def kinds(owner: Connection[Record]) -> list[str]:
    """What the inbox tells of, in order; a subject that came to be is told of as its attributes are."""
    return [row[0] for row in await owner.fetch("SELECT kind FROM inbox ORDER BY inbox_no")]


async def actions(owner: Connection[Record]) -> list[tuple[str, str]]:
    rows = await owner.fetch("SELECT action, metadata ->> 'channel' FROM audit_log ORDER BY audit_no")
    return [(row[0], row[1]) for row in rows]


async def test_changes_are_made_in_order_and_all_opt_outs_returned(transactions: Transactions) -> None:
    await update(transactions, out("log", "marketing"), out(ANY, ANY))

    kept = await update(
        transactions, back(ANY, ANY), out("webhook", ANY), out("email", "marketing"), back("email", "marketing")
    )

    assert [(opt_out.channel, opt_out.category) for opt_out in kept] == [("log", "marketing"), ("webhook", ANY)]


async def test_an_unknown_subject_is_created(transactions: Transactions, owner: Connection[Record]) -> None:
    await update(transactions, out(ANY, ANY))

    assert await owner.fetchval("SELECT subject_id FROM subjects") == "user-1"


async def test_what_is_said_twice_is_told_once_and_keeps_its_time(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    first = await update(transactions, out("log", ANY))

    second = await update(transactions, out("log", ANY), back("log", "marketing"))

    assert second == first
    assert await kinds(owner) == ["attributes", "preferences"]


async def test_a_suppression_is_kept_told_and_audited_by_ref(
    transactions: Transactions, owner: Connection[Record]
) -> None:
    first = await suppress(transactions, "log", "hard_bounce")
    again = await suppress(transactions, "log", "hard_bounce")
    other = await suppress(transactions, "log", "complaint")

    assert again == first
    assert (other.reason, other.suppressed_at) == ("complaint", first.suppressed_at)
    assert await kinds(owner) == ["attributes", "preferences"]
    assert await actions(owner) == [("subject_suppressed", "log")] * 2
    refs = {row[0] for row in await owner.fetch("SELECT resource_id FROM audit_log")}
    assert refs == {subject_hash(SECRET, "default", "user-1")}


async def test_a_suppression_is_taken_away_once(transactions: Transactions, owner: Connection[Record]) -> None:
    await suppress(transactions, ANY, "asked")

    await unsuppress(transactions, ANY)
    with pytest.raises(NotFound) as refused:
        await unsuppress(transactions, ANY)

    assert refused.value.reason == "SUPPRESSION_NOT_FOUND"
    assert await kinds(owner) == ["attributes", "preferences", "preferences"]
    assert await actions(owner) == [("subject_suppressed", ANY), ("subject_unsuppressed", ANY)]


async def test_nothing_can_be_taken_from_who_is_not_there(transactions: Transactions) -> None:
    with pytest.raises(NotFound) as refused:
        await unsuppress(transactions, ANY)

    assert refused.value.reason == "SUBJECT_NOT_FOUND"


async def test_suppressions_are_paged_by_channel(transactions: Transactions) -> None:
    for channel in ("webhook", ANY, "log"):
        await suppress(transactions, channel, "asked")

    async with transactions.read(1) as conn:
        key, _ = await subject_use_cases.find(conn, 1, "user-1")
        first = await preferences.suppressions(conn, key, after_channel="", limit=2)
        second = await preferences.suppressions(conn, key, after_channel=first[-1].channel, limit=2)

    assert [suppression.channel for suppression in first + second] == [ANY, "log", "webhook"]


async def test_an_answered_opt_out_is_seen_by_whoever_takes_the_row_afterwards(transactions: Transactions) -> None:
    """What a reservation does: it takes the row, then reads. 200 of them race one opt-out each."""
    async with transactions.write(1) as conn:
        await subject_use_cases.upsert(
            conn, 1, [SubjectPatch(subject_id=f"user-{n}", attributes={}) for n in range(200)]
        )
    async with transactions.read(1) as conn:
        keys = await subjects.find_keys(conn, 1, (f"user-{n}" for n in range(200)))
    late: list[str] = []

    async def race(subject_id: str, key: SubjectKey) -> None:
        answered = asyncio.Event()

        async def opt_out() -> None:
            async with transactions.write(1) as conn:
                await use_cases.update(conn, 1, subject_id, [out(ANY, ANY)])
            answered.set()

        async def reserve() -> None:
            async with transactions.write(1) as conn:
                was_answered = answered.is_set()
                await subjects.lock(conn, [key])
                if was_answered and not await preferences.opt_outs(conn, key):
                    late.append(subject_id)

        await asyncio.gather(opt_out(), *(reserve() for _ in range(3)))

    for start in range(0, 200, 2):
        pair = (f"user-{start}", f"user-{start + 1}")
        await asyncio.gather(*(race(subject_id, keys[subject_id]) for subject_id in pair))

    assert late == []
