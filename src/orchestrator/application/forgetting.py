"""Forgetting somebody, as it is asked for: from the answer on nothing finds the subject, sends to it or takes its ids
in.

What takes longer a workflow does (application/erasures.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit import SUBJECT_FORGOTTEN, TOMBSTONE_LIFTED
from orchestrator.domain.erasure import Erasure, Origin, Passed, Phase
from orchestrator.domain.ids import new_id
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument, NotFound, SubjectForgotten
from orchestrator.domain.resource import Place
from orchestrator.domain.scope import Scope, SubjectKey
from orchestrator.domain.subject import bucket_of, id_fault, subject_hash
from orchestrator.storage import audit, clock, erasing, erasures, memberships, subjects, tombstones


async def forget(
    conn: Connection[Record], scope: Scope, secret: bytes, subject_id: str, *, replayed: str | None = None
) -> Erasure:
    """Forget whoever has this id, with all their ids: an id that was merged into another subject means that one.

    An id that nobody has is forgotten as well: it is not to come. Asking again returns the erasure that there is.
    `replayed`: the id of an erasure that the ledger knows and this database does not. Raises InvalidArgument.
    """
    if fault := id_fault(subject_id, "subjectId"):
        raise InvalidArgument([fault])
    project_no = scope.project_no
    if (earlier := await tombstones.find(conn, project_no, subject_id)) is not None:
        return await get(conn, scope, earlier)
    try:
        key = await _hold(conn, project_no, subject_id)
    except SubjectForgotten:  # by somebody else, at this moment
        earlier = await tombstones.find(conn, project_no, subject_id)
        assert earlier is not None, "whose transaction has ended"
        return await get(conn, scope, earlier)
    now = await clock.now(conn)
    subject = (await subjects.read(conn, project_no, [key]))[key]
    ids = (subject.subject_id, *subject.alias_ids)
    erasure = Erasure(
        erasure_id=replayed or new_id("era"),
        subject_ref=subject_hash(secret, scope.project_id, subject.subject_id),
        origin=Origin.REPLAY if replayed else Origin.REQUEST,
        ids=len(ids),
        phase=Phase.TOMBSTONE.after,
        phases={Phase.TOMBSTONE: Passed(ended_at=now, counts={"ids": len(ids)})},
        requested_at=now,
    )
    await tombstones.add(conn, project_no, ids, erasure.erasure_id, now)
    await erasures.insert(conn, key, erasure, ids, await erasures.take_starts(conn, key))
    await memberships.delete(conn, key)
    await erasing.take_out(conn, key)
    await audit.append(
        conn,
        project_no=project_no,
        at=now,
        actor=scope.actor,
        action=SUBJECT_FORGOTTEN,
        resource_id=erasure.subject_ref,
        metadata={"erasureId": erasure.erasure_id, "origin": erasure.origin.value},
    )
    return erasure


async def get(conn: Connection[Record], scope: Scope, erasure_id: str) -> Erasure:
    """Raises NotFound ERASURE_NOT_FOUND."""
    found = await erasures.find(conn, scope.project_no, erasure_id)
    if found is None:
        raise NotFound("ERASURE_NOT_FOUND", f"there is no erasure {erasure_id}", erasureId=erasure_id)
    return found


async def page(
    conn: Connection[Record], scope: Scope, *, after: Place | None, limit: int
) -> tuple[list[Erasure], Place | None]:
    """Erasures, newest first, and where the page ends."""
    return await erasures.page(conn, scope.project_no, after=after, limit=limit)


async def lift(conn: Connection[Record], scope: Scope, subject_id: str) -> Erasure:
    """Take this id in again, and all others of the same person; nothing that was erased comes back.

    A worker writes it to the ledger. Raises InvalidArgument, NotFound TOMBSTONE_NOT_FOUND, and FailedPrecondition
    ERASURE_UNDER_WAY until everything is erased.
    """
    if fault := id_fault(subject_id, "subjectId"):
        raise InvalidArgument([fault])
    erasure_id = await tombstones.find(conn, scope.project_no, subject_id)
    if erasure_id is None:
        raise NotFound("TOMBSTONE_NOT_FOUND", f"{subject_id} was not forgotten", subjectId=subject_id)
    erasure = await get(conn, scope, erasure_id)
    under_way = await erasures.still_erasing(conn, scope.project_no, erasure_id)
    if erasure.phase is not Phase.DONE:
        under_way = erasure_id
    if under_way is not None:
        raise FailedPrecondition(
            "ERASURE_UNDER_WAY",
            f"{subject_id} is being erased: wait until {under_way} is done",
            subjectId=subject_id,
            erasureId=under_way,
        )
    now = await clock.now(conn)
    await tombstones.lift(conn, scope.project_no, erasure_id)
    await erasures.lifted(conn, scope.project_no, erasure_id, now)
    await audit.append(
        conn,
        project_no=scope.project_no,
        at=now,
        actor=scope.actor,
        action=TOMBSTONE_LIFTED,
        resource_id=erasure.subject_ref,
        metadata={"erasureId": erasure_id},
    )
    return await get(conn, scope, erasure_id)


async def count_refused(transactions: Transactions, project_no: int, refused: Mapping[str, int]) -> None:
    """Note that these ids have come back so often and were refused, in a transaction of its own: that which they came
    with has been undone.
    """
    async with transactions.write(project_no) as conn:
        await tombstones.count(conn, project_no, refused, await clock.now(conn))


async def _hold(conn: Connection[Record], project_no: int, subject_id: str) -> SubjectKey:
    """The subject, created if need be, whose row is held from here on, with passes and ingest held off.

    Raises SubjectForgotten.
    """
    while True:
        # What was locked in vain is let go, so that all is locked in order.
        attempt = conn.transaction()
        await attempt.start()
        try:
            key = await _held(conn, project_no, subject_id)
        except BaseException:
            await attempt.rollback()
            raise
        if key is not None:
            await attempt.commit()
            return key
        await attempt.rollback()


async def _held(conn: Connection[Record], project_no: int, subject_id: str) -> SubjectKey | None:
    """`_hold`; None: the subject has come or gone meanwhile."""
    key = (await subjects.find_keys(conn, project_no, [subject_id])).get(subject_id)
    if key is None:
        nobody = SubjectKey(project_no=project_no, bucket=bucket_of(subject_id), subject_no=0)
        await memberships.hold_off_passes(conn, nobody)
        # First: ingest that is under way may be creating the same, and would wait for us.
        await subjects.hold_off_ingest(conn, project_no)
        keys, created = await subjects.ensure_locked(conn, project_no, [subject_id], await clock.now(conn))
        return keys[subject_id] if subject_id in created else None
    await memberships.hold_off_passes(conn, key)
    if not await subjects.lock(conn, [key]):
        return None
    # Who writes about many subjects holds none of them; whoever knows the key has committed behind this.
    await subjects.hold_off_ingest(conn, project_no)
    return key
