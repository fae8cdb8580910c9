"""Sealing the audit log, beside whoever writes to it, and telling outside of the database how far that is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from orchestrator.application.transactions import Transactions
from orchestrator.domain.audit_chain import next_seal
from orchestrator.storage import audit_seals, clock
from orchestrator.storage.audit_seals import ANCHORING, SEALING, Anchor

logger = logging.getLogger(__name__)

#: Entries sealed in one transaction.
BATCH = 1000

#: An anchor is told when so many entries were sealed since the one before, or it is so old.
ANCHOR_ENTRIES = 1000
ANCHOR_AGE = timedelta(minutes=10)

#: Anchors told in one go, and the most unsealed entries that are counted.
_ANCHORS_AT_ONCE = 1000
_COUNTED = 100_000

#: Keeps anchors outside of the database. Has kept all of them for good when it returns; raises OSError.
Keep = Callable[[Sequence[Anchor]], Awaitable[None]]


class AuditSealing:
    """One process of all does it at a time, whichever comes; killed anywhere, the next one goes on.

    `keep` None: anchors stand in the log alone.
    """

    def __init__(self, transactions: Transactions, keep: Keep | None = None) -> None:
        self._transactions = transactions
        self._keep = keep

    async def seal(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Seal all that waits, batch by batch, as long as `go_on`; how many. 0: none, or others are at it."""
        async with self._transactions.read(None) as conn:
            projects = await audit_seals.waiting(conn)
        sealed = 0
        for project_no in projects:
            after: int | None = audit_seals.BEFORE_ALL
            while after is not None and go_on():
                count, after = await self._seal(project_no, after)
                sealed += count
        return sealed

    async def anchor(self) -> int:
        """Tell outside which seals are due, to `keep` and in the log; how many.

        They are noted as told afterwards: whoever dies in between has them told twice, which does no harm. What cannot
        be kept is due again at the next look; 0 then.
        """
        async with self._transactions.write(None) as conn:
            if not await audit_seals.take_turn(conn, ANCHORING):
                return 0
            now = await clock.now(conn)
            due = await audit_seals.due(conn, now, every=ANCHOR_ENTRIES, after=ANCHOR_AGE, limit=_ANCHORS_AT_ONCE)
            if not due:
                return 0
            try:
                if self._keep is not None:
                    await self._keep(due)
            except OSError as error:
                said = error.strerror or type(error).__name__
                logger.error("anchors of the audit log could not be kept", extra={"error": said})
                return 0
            for anchor in due:
                logger.info(
                    "the audit log is anchored",
                    extra={"project_id": anchor.project_id, "seq": anchor.seal.seq, "hash": anchor.seal.hash.hex()},
                )
            await audit_seals.note(conn, due, now)
        return len(due)

    async def count_unsealed(self) -> int:
        """How many entries wait for their seal; not counted beyond a hundred thousand."""
        async with self._transactions.read(None) as conn:
            return await audit_seals.count_unsealed(conn, _COUNTED)

    async def _seal(self, project_no: int, after: int) -> tuple[int, int | None]:
        """One batch: how many, and after which entry there may be more; None: nowhere, for now."""
        async with self._transactions.write(None) as conn:
            if not await audit_seals.take_turn(conn, SEALING):
                return 0, None
            entries = await audit_seals.unsealed(conn, project_no, after, BATCH)
            seal = await audit_seals.head(conn, project_no)
            sealed = []
            for entry in entries:
                seal = next_seal(seal, entry.row)
                sealed.append((seal, entry))
            if sealed:
                await audit_seals.seal(conn, project_no, sealed, await clock.now(conn))
        return len(sealed), entries[-1].audit_no if len(entries) == BATCH else None
