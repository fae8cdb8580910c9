"""Who is calling: from a key to the scope it opens."""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import Semaphore, Task
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from hmac import compare_digest

from orchestrator.api.guesses import PER_MINUTE, Guesses
from orchestrator.api.limits import SharedPlaces
from orchestrator.application.api_keys import ApiKeys, note_use
from orchestrator.application.transactions import Transactions
from orchestrator.domain.api_key import MARK, is_possible
from orchestrator.domain.refusals import Unauthenticated
from orchestrator.domain.scope import INSTANCE, Role, Scope
from orchestrator.storage.api_keys import Bearer
from orchestrator.storage.running_call import running_call

logger = logging.getLogger(__name__)

#: For how long an answer of the database is believed; a revoked key is refused everywhere after that.
BELIEVED_FOR = timedelta(seconds=4)
#: So many keys are remembered, good ones and bad ones each.
REMEMBERED = 10_000
#: Keys nobody knows must not occupy the database's connections, nor hold up those that were good a moment ago.
LOOKUPS_AT_ONCE = 4
#: So many unknown keys wait to be looked up, altogether and from one address; more are told to come back.
LOOKUPS_WAITING = 1_000
LOOKUPS_WAITING_EACH = 250
USE_WRITTEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Known:
    scope: Scope | None
    until: float


def key_of(headers: Mapping[str, str]) -> str:
    """The key in `authorization: Bearer` or `x-api-key` (names in lower case); empty when there is none."""
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key", "")


def is_bearer(headers: Mapping[str, str]) -> bool:
    """Whether the key of these headers, if there is one, stands in `authorization`."""
    return "authorization" in headers


class Authentication:
    """Knows the keys of this instance. Asks Postgres about each key at most once in `believed_for`."""

    def __init__(
        self,
        transactions: Transactions,
        instance_secret: bytes,
        *,
        operator_key: str | None = None,
        internal_tokens: Iterable[str] = (),
        believed_for: timedelta = BELIEVED_FOR,
        wrong_keys_per_minute: int = PER_MINUTE,
    ) -> None:
        self._transactions = transactions
        self._instance_secret = instance_secret
        self._api_keys = ApiKeys(instance_secret)
        self._believed_for = believed_for
        given = [(token, Role.INTERNAL) for token in internal_tokens]
        if operator_key is not None:
            given.append((operator_key, Role.OPERATOR))
        self._given = [(self._mark(key), _scope_of_instance(role)) for key, role in given]
        self._good = _Memory()
        self._bad = _Memory()
        self._asked: dict[bytes, Task[Scope | None]] = {}
        self._guesses = Guesses(wrong_keys_per_minute)
        self._lookups = Semaphore(LOOKUPS_AT_ONCE)
        self._lookups_of_good = Semaphore(LOOKUPS_AT_ONCE)
        self._waiting = SharedPlaces(altogether=LOOKUPS_WAITING, each=LOOKUPS_WAITING_EACH)
        self._notes: set[Task[None]] = set()

    async def scope_of(self, key: str, peer: str, *, as_bearer: bool) -> Scope:
        """The scope this key opens; `peer` is the address it came from. The internal token opens one `as_bearer` only:
        no page, and nothing that hands on other headers, is to use it unawares.

        Raises Unauthenticated, which says nothing about why a key is not valid, and TooManyCalls.
        """
        if not key:
            raise Unauthenticated("UNAUTHENTICATED", "an API key is required: Authorization: Bearer, or X-Api-Key")
        mark = self._mark(key)
        if self._bad.recall(mark) is not None:
            raise _not_valid()  # as it was a moment ago: nothing new was tried
        if key.startswith(MARK):
            return await self._find(mark, key, peer, as_bearer)  # 256 random bits, which nobody guesses
        with self._guesses.one(peer, mark):
            return await self._find(mark, key, peer, as_bearer)

    async def _find(self, mark: bytes, key: str, peer: str, as_bearer: bool) -> Scope:
        scope = self._scope_given(mark)
        if scope is not None and scope.role is Role.INTERNAL and not as_bearer:
            raise Unauthenticated("UNAUTHENTICATED", "the internal token is taken as Authorization: Bearer alone")
        if scope is None:
            known = self._good.recall(mark)
            if known is not None:
                scope = known.scope
            elif is_possible(key):
                scope = await self._ask_once(mark, key, peer)
        if scope is None:
            raise _not_valid()
        return scope

    def _scope_given(self, mark: bytes) -> Scope | None:
        """That of a key that was given to this process. All are compared, each in full: time tells nothing of them."""
        found: Scope | None = None
        for given, scope in self._given:
            if compare_digest(given, mark):
                found = scope
        return found

    async def close(self) -> None:
        """Wait for what is still being written."""
        await asyncio.gather(*self._notes, return_exceptions=True)

    def _mark(self, key: str) -> bytes:
        """What a key is remembered by in this process: keys themselves are kept nowhere. Cheaper than its digest."""
        return blake2b(key.encode(errors="replace"), key=self._instance_secret[:64], digest_size=32).digest()

    async def _ask_once(self, mark: bytes, key: str, peer: str) -> Scope | None:
        """Ask the database, once for all who are waiting for the answer."""
        asked = self._asked.get(mark)
        if asked is None:
            asked = self._asked[mark] = asyncio.create_task(self._ask(mark, key, peer))
            asked.add_done_callback(lambda done: self._answered(mark, done))
        return await asyncio.shield(asked)

    def _answered(self, mark: bytes, done: Task[Scope | None]) -> None:
        del self._asked[mark]
        if not done.cancelled():
            done.exception()  # retrieved, also when everybody who waited has gone away

    async def _ask(self, mark: bytes, key: str, peer: str) -> Scope | None:
        if self._good.holds(mark):
            async with self._lookups_of_good:
                return await self._look_up(mark, key)
        with self._waiting.place(peer):
            async with self._lookups:
                return await self._look_up(mark, key)

    async def _look_up(self, mark: bytes, key: str) -> Scope | None:
        # Critical calls may wait for it.
        with running_call(critical=True):
            async with self._transactions.read(INSTANCE) as conn:
                asked_at = time.monotonic()
                bearer = await self._api_keys.bearer_of(conn, key)
        left = _validity(bearer)
        scope = _scope(bearer) if bearer is not None and left > timedelta(0) else None
        memory, other = (self._bad, self._good) if scope is None else (self._good, self._bad)
        believed = self._believed_for if scope is None else min(self._believed_for, left)
        memory.keep(mark, _Known(scope, asked_at + believed.total_seconds()))
        other.forget(mark)
        if bearer is not None and scope is not None:
            self._note_use(bearer)
        return scope

    def _note_use(self, bearer: Bearer) -> None:
        """Write down when the key was last used: to the minute, beside the call, and no call fails of it."""
        last = bearer.api_key.last_used_at
        if last is None or bearer.read_at - last >= USE_WRITTEN_EVERY:
            note = asyncio.create_task(self._write_use(bearer))
            self._notes.add(note)
            note.add_done_callback(self._notes.discard)

    async def _write_use(self, bearer: Bearer) -> None:
        try:
            async with self._transactions.write(bearer.project_no) as conn:
                await note_use(conn, bearer, at_most_every=USE_WRITTEN_EVERY)
        except Exception as error:
            logger.warning("the use of a key was not written down", extra={"error": type(error).__name__})


class _Memory:
    """What is known of keys, by their marks; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def recall(self, mark: bytes) -> _Known | None:
        known = self._known.get(mark)
        return known if known is not None and known.until > time.monotonic() else None

    def holds(self, mark: bytes) -> bool:
        """Whether it was known at some time."""
        return mark in self._known

    def keep(self, mark: bytes, known: _Known) -> None:
        self._known[mark] = known
        self._known.move_to_end(mark)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, mark: bytes) -> None:
        self._known.pop(mark, None)


def _not_valid() -> Unauthenticated:
    return Unauthenticated("UNAUTHENTICATED", "the API key is not valid")


def _validity(bearer: Bearer | None) -> timedelta:
    """For how long the key is valid still: nothing, when it is none."""
    if bearer is None or bearer.api_key.revoked_at is not None:
        return timedelta(0)
    expires_at = bearer.api_key.expires_at
    return timedelta.max if expires_at is None else expires_at - bearer.read_at


def _scope_of_instance(role: Role) -> Scope:
    return Scope(project_no=INSTANCE, project_id="", actor=role.name.lower(), role=role)


def _scope(bearer: Bearer) -> Scope:
    key = bearer.api_key
    return Scope(
        project_no=bearer.project_no,
        project_id=bearer.project_id,
        actor=f"key:{key.api_key_id}",
        role=key.role,
        principal=f"key:{key.origin_id or key.api_key_id}",
    )
