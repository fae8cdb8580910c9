"""Rounds through the inbox: subjects are worked on together, and what makes that fail is found and left behind."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.application.inbox import SUBJECTS, Inbox, Worked
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.outages import is_outage
from orchestrator.storage.outbox import Entry as Told

logger = logging.getLogger(__name__)

#: Has Temporal told of what one transaction has decided.
Tell = Callable[[Sequence[Told]], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Round:
    """What came of it: subjects looked after, those of them for whom there was something, entries of theirs that were
    acted on, and subjects that made it fail. Of the others, somebody else is at them, or they are gone.
    """

    subjects: int = 0
    concerned: int = 0
    entries: int = 0
    failed: int = 0


class Rounds:
    """`tell` is called after each commit, with what Temporal is to be told."""

    def __init__(self, inbox: Inbox, tell: Tell) -> None:
        self._inbox = inbox
        self._tell = tell

    async def go(self, keys: Sequence[SubjectKey]) -> Round:
        """Act on all entries of these subjects, as far as nobody else is working on them: in one transaction; if that
        fails, in small groups, and of those that fail one by one.

        Raises what a database raises that is away.
        """
        done = Round()
        if not await self._together(keys, done):
            for start in range(0, len(keys), SUBJECTS):
                group = keys[start : start + SUBJECTS]
                if not await self._together(group, done):
                    await self._singly(group, done)
        return done

    async def go_singly(self, keys: Sequence[SubjectKey]) -> Round:
        """The same, one subject at a time."""
        done = Round()
        await self._singly(keys, done)
        return done

    async def _together(self, keys: Sequence[SubjectKey], done: Round) -> bool:
        try:
            worked = await self._inbox.work(keys)
        except Exception as error:
            if is_outage(error):
                raise
            logger.info("some entries failed together", extra={"error": type(error).__name__})
            return False
        await self._add(worked, done)
        return True

    async def _singly(self, keys: Sequence[SubjectKey], done: Round) -> None:
        """Something about one of them makes the others fail too: find it, and let the others go on."""
        for key in keys:
            try:
                worked = await self._inbox.work([key])
            except Exception as error:
                if is_outage(error):
                    raise
                done.failed += 1
                dead = await self._inbox.failed(key, type(error).__name__)
                logger.exception("entries of a subject cannot be worked through", extra={"set_aside": dead})
            else:
                await self._add(worked, done)

    async def _add(self, worked: Worked, done: Round) -> None:
        done.subjects += worked.subjects
        done.concerned += worked.concerned
        done.entries += worked.entries
        await self._tell(worked.told)
