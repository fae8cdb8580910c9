"""Refusing messages by a link, as people do who have no key: the same change as by UpdatePreferences."""

from __future__ import annotations

from dataclasses import dataclass

from asyncpg import Connection, Record

from orchestrator.application import preferences
from orchestrator.application.transactions import Transactions
from orchestrator.domain.scope import SubjectKey
from orchestrator.domain.unsubscribe_link import UnsubscribeLinks
from orchestrator.storage import projects, subject_aliases, subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a link is for. It says nothing of the person."""

    project_id: str
    project_name: str
    channel: str
    category: str


class Unsubscribing:
    """Use cases of whoever has a link."""

    def __init__(self, transactions: Transactions, links: UnsubscribeLinks) -> None:
        self._transactions = transactions
        self._links = links

    async def look(self, token: str) -> Offer | None:
        """What the link is for; None when it is none of ours, or of a subject that is gone. Changes nothing."""
        wanted = self._links.read(token)
        if wanted is None:
            return None
        async with self._transactions.read(wanted.key.project_no) as conn:
            if not await _exists(conn, wanted.key):
                return None
            return await _offer(conn, wanted.key.project_no, wanted.channel, wanted.category)

    async def carry_out(self, token: str) -> Offer | None:
        """Opt the subject out, or the one that it was merged into. Once this has returned, no such send begins.

        May be repeated. None as in `look`.
        """
        wanted = self._links.read(token)
        if wanted is None:
            return None
        async with self._transactions.write(wanted.key.project_no) as conn:
            key = await subjects.lock_survivor(conn, wanted.key)
            if key is None:
                return None
            await preferences.opt_out(conn, key, wanted.channel, wanted.category)
            return await _offer(conn, key.project_no, wanted.channel, wanted.category)


async def _exists(conn: Connection[Record], key: SubjectKey) -> bool:
    found: SubjectKey | None = key
    while found is not None and not await subjects.read(conn, key.project_no, [found]):
        found = await subject_aliases.survivor(conn, found)
    return found is not None


async def _offer(conn: Connection[Record], project_no: int, channel: str, category: str) -> Offer:
    project = await projects.get(conn, project_no)
    return Offer(project_id=project.project_id, project_name=project.name, channel=channel, category=category)
