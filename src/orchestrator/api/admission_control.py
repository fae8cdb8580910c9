"""Which calls are let in: the rest are told when to come back, before anything of them is read.

Who gets in is served in time. There are only so many places; a part of them is kept for critical calls, few are for
heavy ones, and no key takes more than its share while others ask. Beyond that a key may begin so many calls a second.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from orchestrator.api.adaptive_limit import AdaptiveLimit
from orchestrator.api.errors import TooManyCalls
from orchestrator.api.policy import CallClass
from orchestrator.domain.scope import Scope

logger = logging.getLogger(__name__)

#: Of all places, those that are kept for critical calls.
CRITICAL_SHARE = 0.2
#: Seconds whose calls a key may begin at once after a rest.
BURST = 2.0
#: So many keys are remembered; those who rest are forgotten first.
KEYS = 10_000
#: Before somebody comes back for whom there was no place.
COME_BACK = timedelta(seconds=1)
#: Calls that were not let in are told to the log together, so often at most, in seconds.
TOLD_EVERY = 1.0


class Shortage(Enum):
    """What there was too little of."""

    #: Places in this server.
    PLACES = "places"
    #: Places for one key.
    KEY_PLACES = "key_places"
    #: Calls a second of one key.
    KEY_RATE = "key_rate"


class NotLetIn(TooManyCalls):
    """There was no place for a call. `limit` in its metadata names the shortage."""

    def __init__(self, shortage: Shortage, message: str, retry_after: timedelta) -> None:
        super().__init__("RATE_LIMITED", message, limit=shortage.value)
        self.shortage = shortage
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """`calls` at once, `calls_of_key` of them with one key, `heavy` of them heavy; `per_second` calls that a key
    begins, 0: as many as it likes. Critical calls of a key are counted apart from its others.
    """

    calls: int
    calls_of_key: int
    heavy: int
    per_second: float = 0.0


@dataclass(slots=True)
class _Caller:
    """What is known of a key: its calls under way, and when the calls it has begun will have been paid for."""

    inside: int = 0
    paid_at: float = 0.0


class Admission:
    """Gives places to calls. One for both transports."""

    def __init__(
        self,
        bounds: Bounds,
        *,
        limit: AdaptiveLimit | None = None,
        shed: Callable[[CallClass, Shortage], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit`: how many calls can be served in time, which may be fewer than `bounds` allow. `shed` hears of each
        that is not let in.
        """
        self._bounds = bounds
        self._limit = limit
        self._shed = shed
        self._clock = clock
        calls = bounds.calls
        self._most = {
            CallClass.CRITICAL: calls,
            CallClass.ORDINARY: max(1, calls - int(calls * CRITICAL_SHARE)),
            CallClass.HEAVY: bounds.heavy,
        }
        self._inside = dict.fromkeys(CallClass, 0)
        self._callers: OrderedDict[tuple[int, str, bool], _Caller] = OrderedDict()
        self._busy_keys = 0
        self._untold = 0
        self._told_at = -TOLD_EVERY

    @property
    def inside(self) -> int:
        """Calls under way."""
        return sum(self._inside.values())

    @contextmanager
    def place(self, scope: Scope, call_class: CallClass) -> Iterator[None]:
        """A place for one call. Raises NotLetIn."""
        caller = self._caller(scope, call_class)
        try:
            self._require_place(caller, call_class)
            self._require_rate(caller)
        except NotLetIn as refused:
            self._shed(call_class, refused.shortage)
            self._tell(scope, refused.shortage)
            raise
        self._enter(caller, call_class, 1)
        try:
            yield
        finally:
            self._enter(caller, call_class, -1)

    def _enter(self, caller: _Caller, call_class: CallClass, change: int) -> None:
        was_busy = caller.inside > 0
        self._inside[call_class] += change
        caller.inside += change
        self._busy_keys += (caller.inside > 0) - was_busy

    def _require_place(self, caller: _Caller, call_class: CallClass) -> None:
        inside = self.inside
        critical = call_class is CallClass.CRITICAL
        full = inside >= self._bounds.calls
        if not critical:
            others = inside - self._inside[CallClass.CRITICAL]
            full |= others >= self._most[CallClass.ORDINARY]
        if call_class is CallClass.HEAVY:
            full |= self._inside[call_class] >= self._most[call_class]
        if full:
            raise NotLetIn(Shortage.PLACES, "too many calls are under way: try again", COME_BACK)
        if caller.inside >= self._bounds.calls_of_key:
            raise NotLetIn(Shortage.KEY_PLACES, "too many calls of this key are under way: try again", COME_BACK)
        if critical or self._limit is None:
            return
        # More would not be served sooner, only later. Who has less than his share is not kept waiting by who has more.
        self._limit.asked(inside)
        limit = self._limit.calls
        if inside >= limit and caller.inside >= max(1, limit // max(1, self._busy_keys)):
            raise NotLetIn(Shortage.PLACES, "too many calls are under way: try again", COME_BACK)

    def _require_rate(self, caller: _Caller) -> None:
        """A leaky bucket, kept as the time at which it will be empty."""
        rate = self._bounds.per_second
        if not rate:
            return
        now = self._clock()
        paid_at = max(caller.paid_at, now) + 1 / rate
        # What a burst of less than one call would be, is one.
        over = paid_at - now - max(BURST, 1 / rate)
        if over > 1e-9:
            message = f"this key begins more than {rate:g} calls a second: try again"
            raise NotLetIn(Shortage.KEY_RATE, message, timedelta(seconds=over))
        caller.paid_at = paid_at

    def _caller(self, scope: Scope, call_class: CallClass) -> _Caller:
        key = (scope.project_no, scope.actor, call_class is CallClass.CRITICAL)
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = _Caller()
            if len(self._callers) > KEYS:
                self._forget_one()
        self._callers.move_to_end(key)
        return caller

    def _forget_one(self) -> None:
        """Whoever has rested longest; those with calls under way are not forgotten, nor is the newest."""
        oldest, caller = next(iter(self._callers.items()))
        if caller.inside:
            self._callers.move_to_end(oldest)
        else:
            del self._callers[oldest]

    def _tell(self, scope: Scope, shortage: Shortage) -> None:
        """A line for each would cost more than it says; the last one names itself."""
        self._untold += 1
        now = self._clock()
        if now - self._told_at < TOLD_EVERY:
            return
        logger.warning(
            "calls are told to come back",
            extra={
                "calls": self._untold,
                "in_flight": self.inside,
                "limit": shortage.value,
                "project_id": scope.project_id,
                "actor": scope.actor,
            },
        )
        self._untold, self._told_at = 0, now
