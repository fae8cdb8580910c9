"""Does the audit log still say what was sealed, and what was anchored elsewhere?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit_chain import GENESIS, Anchors, Misfit, MisfitKind, Seal, next_seal
from orchestrator.storage import audit_seals
from orchestrator.storage.audit_seals import Sealed

#: Seals looked at in one statement: some milliseconds of work, between which others get their turn.
PAGE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """`head`: the last seal up to which all fits. `unsealed`: entries that wait for theirs. `anchors`: numbers of seals
    that were held against what was kept elsewhere. `misfit`: the first place that does not fit; None: all does.
    """

    head: Seal
    unsealed: int
    anchors: int
    misfit: Misfit | None


async def verify(conn: Connection[Record], project_no: int, anchors: Anchors) -> Verified:
    """Make the chain of the project again, from its first entry on, and hold it against its seals and the anchors.

    Needs no transaction: what is sealed meanwhile does not disturb it. Without anchors it is not seen when the end of
    the log was cut off, or all of it was sealed anew, by somebody who did so thoroughly.
    """
    walk = _Walk(anchors)
    while True:
        page = await audit_seals.sealed(conn, project_no, walk.head.seq, PAGE)
        misfit = walk.over(page)
        if misfit is not None or len(page) < PAGE:
            break
    rest = await audit_seals.rest(conn, project_no)
    if misfit is None:
        last = max(anchors.last, await audit_seals.anchored(conn, project_no))
        if last > walk.head.seq:
            misfit = Misfit(kind=MisfitKind.CUT_OFF, seq=walk.head.seq + 1, to_seq=last)
        elif rest.vanished is not None:
            misfit = Misfit(kind=MisfitKind.MISSING, audit_no=rest.vanished)
        elif rest.stray is not None:
            misfit = Misfit(kind=MisfitKind.UNSEALED, audit_no=rest.stray)
    return Verified(head=walk.head, unsealed=rest.waiting, anchors=walk.met, misfit=misfit)


async def verify_all(transactions: Transactions, anchors: Mapping[str, Anchors]) -> AsyncIterator[tuple[str, Verified]]:
    """The same for every project, by its id, and for the instance. Of one that is not there and has anchors, all is
    gone.

    `transactions` are those of the workers' role, which sees all projects.
    """
    async with transactions.read(None) as conn:
        numbers = await audit_seals.logs(conn)
    for project_id, project_no in numbers.items():
        async with transactions.read(None) as conn:
            yield project_id, await verify(conn, project_no, anchors.get(project_id, Anchors()))
    for project_id in sorted(anchors.keys() - numbers.keys()):
        gone = Misfit(kind=MisfitKind.CUT_OFF, seq=1, to_seq=anchors[project_id].last)
        yield project_id, Verified(head=GENESIS, unsealed=0, anchors=0, misfit=gone)


class _Walk:
    """Along the chain, as far as it fits. `met`: anchors on the way."""

    def __init__(self, anchors: Anchors) -> None:
        self._anchors = anchors
        # Up to here an anchor says that all is as it was.
        self._sure = GENESIS.seq
        self.head = GENESIS
        self.met = 0

    def over(self, page: list[Sealed]) -> Misfit | None:
        """Go on over these seals, to the first that does not fit, which is returned."""
        for sealed in page:
            misfit = self._misfit(sealed)
            if misfit is not None:
                return misfit
        return None

    def _misfit(self, sealed: Sealed) -> Misfit | None:
        seq = self.head.seq + 1
        if sealed.seq != seq:
            return Misfit(kind=MisfitKind.SEAL_MISSING, seq=seq)
        if sealed.row is None:
            return Misfit(kind=MisfitKind.MISSING, seq=seq, audit_no=sealed.audit_no)
        seal = next_seal(self.head, sealed.row)
        if seal.hash != sealed.hash:
            return Misfit(kind=MisfitKind.CHANGED, seq=seq, audit_no=sealed.audit_no)
        if sealed.anchored not in (None, seal.hash) or not self._anchors.fit(seal):
            return Misfit(kind=MisfitKind.REWRITTEN, seq=self._sure + 1, to_seq=seq)
        if self._anchors.about(seq):
            self.met += 1
            self._sure = seq
        self.head = seal
        return None
