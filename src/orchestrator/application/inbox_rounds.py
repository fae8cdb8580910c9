"""Rounds through the inbox: subjects are worked on together, and what makes that fail is found and left behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.application.inbox import SUBJECTS, Inbox, Worked
from orchestrator.domain.scope import SubjectKey
from orchestrator.storage.outages import is_nobodys_fault, took_too_long
from orchestrator.storage.outbox import Notice

logger = logging.getLogger(__name__)

#: For so many seconds a subject whose entries alone took too long is left to whoever tries failed ones again: a
#: transaction that has it among others would end with it.
SLOW_FOR = 600.0

#: Has Temporal told of what one transaction has decided.
Tell = Callable[[Sequence[Notice]], Awaitable[None]]


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
        #: Subjects that took too long, and until when they are left alone, by the monotonic clock.
        self._slow: dict[SubjectKey, float] = {}

    async def go(self, keys: Sequence[SubjectKey]) -> Round:
        """Act on all entries of these subjects, as far as nobody else is working on them: in one transaction; if that
        fails, in small groups, and of those that fail one by one.

        Raises what a database raises that is away.
        """
        done = Round()
        keys = await self._without_slow(keys)
        if keys and not await self._together(keys, done):
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
            if is_nobodys_fault(error):
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
                if is_nobodys_fault(error):
                    raise
                done.failed += 1
                if took_too_long(error):
                    self._slow[key] = time.monotonic() + SLOW_FOR
                dead = await self._inbox.failed(key, type(error).__name__)
                logger.exception("entries of a subject cannot be worked through", extra={"set_aside": dead})
            else:
                self._slow.pop(key, None)
                await self._add(worked, done)

    async def _without_slow(self, keys: Sequence[SubjectKey]) -> Sequence[SubjectKey]:
        """These but for those that took too long lately, whose new entries are put to those that failed."""
        now = time.monotonic()
        self._slow = {key: until for key, until in self._slow.items() if until > now}
        slow = [key for key in keys if key in self._slow]
        if not slow:
            return keys
        await self._inbox.leave_to_retries(slow)
        return [key for key in keys if key not in self._slow]

    async def _add(self, worked: Worked, done: Round) -> None:
        done.subjects += worked.subjects
        done.concerned += worked.concerned
        done.entries += worked.entries
        await self._tell(worked.told)
