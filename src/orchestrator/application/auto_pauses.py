"""Pausing the sends of a journey by themselves, when too many of them come to nothing.

What came of a send is counted in the transaction in which it is recorded; whether that is too much is asked after its
commit, so that of those who learn of failures at once the last to ask sees all of them. One who dies between the two
leaves the question to the next failure. The pause is a row that is inserted once; only a person deletes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from asyncpg import Connection, Record

from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.audit import RUNTIME, SENDS_AUTO_PAUSED
from orchestrator.domain.auto_pause import AutoPause
from orchestrator.domain.refusals import NotFound
from orchestrator.storage import audit, clock, journeys, send_tallies, sends_pauses
from orchestrator.storage.outages import is_outage

logger = logging.getLogger(__name__)


class _Resumed(Exception):
    """Somebody has resumed the sends meanwhile."""


class AutoPauses:
    def __init__(self, transactions: Transactions, versions: Versions) -> None:
        self._transactions = transactions
        self._versions = versions

    async def watches(self, conn: Connection[Record], project_no: int, journey_id: str, version: int) -> bool:
        """Whether what comes of sends of this version is counted; not of one that is gone: what came of it stands."""
        try:
            prepared = await self._versions.get(conn, project_no, journey_id, version)
        except NotFound:
            return False
        return prepared.version.definition.auto_pause is not None

    async def look(self, project_no: int, journey_ids: Iterable[str]) -> None:
        """Something bad was just learned of sends of these journeys: pause the sends of those for which it is too much.

        The newest version says what that is. Nothing is raised: what has been recorded stands, and the next failure
        asks again.
        """
        for journey_id in sorted(set(journey_ids)):
            try:
                await self._look(project_no, journey_id)
            except _Resumed:
                pass
            except Exception as error:
                said = {"journey_id": journey_id, "error": type(error).__name__}
                trace = None if is_outage(error) else error
                logger.warning("whether sends are to be paused is asked another time", extra=said, exc_info=trace)

    async def _rule(self, conn: Connection[Record], project_no: int, journey_id: str) -> AutoPause | None:
        newest = await journeys.latest_version(conn, project_no, journey_id)
        if newest is None:
            return None
        return (await self._versions.get(conn, project_no, journey_id, newest)).version.definition.auto_pause

    async def _look(self, project_no: int, journey_id: str) -> None:
        async with self._transactions.write(project_no) as conn:
            rule = await self._rule(conn, project_no, journey_id)
            if rule is None:
                return
            now = await clock.now(conn)
            tally = await send_tallies.within(conn, project_no, journey_id, rule.window, now)
            reason = rule.tripped_by(tally)
            if reason is None or not await sends_pauses.pause_because(conn, project_no, journey_id, now, reason, tally):
                return
            # Whoever has resumed them, for whom this has waited, counts from the beginning.
            if rule.tripped_by(await send_tallies.within(conn, project_no, journey_id, rule.window, now)) is None:
                raise _Resumed
            await audit.append(
                conn,
                project_no=project_no,
                at=now,
                actor=RUNTIME,
                action=SENDS_AUTO_PAUSED,
                resource_id=journey_id,
                metadata={
                    "reason": reason,
                    "sends": tally.sends,
                    "failed": tally.failed,
                    "complained": tally.complained,
                },
            )
        said = {"journey_id": journey_id, "reason": reason}
        logger.error("too many sends come to nothing: they are paused", extra=said)
