"""Which faults come when: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.devstack.stack import POSTGRES, SERVER, TEMPORAL
from tests.faults.nemesis.proxied_stack import EDGES, SERVERS, WORKERS
from tests.faults.second_server import SECOND_SERVER
from tests.provider.provider import Mode

KILL, FREEZE = "kill", "freeze"
SWIZZLE = "swizzle"
CUT, SILENCE, DELAY, NARROW, PIECES, LIMIT, LINGER = "cut", "silence", "delay", "narrow", "pieces", "limit", "linger"
PROVIDER = "provider"

#: Of one edge, for as long as the fault lasts.
OF_EDGES = (SILENCE, DELAY, CUT, NARROW, PIECES, LIMIT, LINGER)

MODES = {
    "slow": Mode(delay=2.0),
    "failing": Mode(kind="fail", status=503),
    "throttling": Mode(kind="fail", status=429, retry_after="2"),
    "lying": Mode(kind="lost", status=502),
    "speechless": Mode(kind="silent"),
    "rubbish": Mode(kind="rubbish"),
}

#: Seconds between two faults of a track.
SHORTEST, LONGEST = 3.0, 8.0
#: Longer than an activity may go without a sign of life, in seconds.
FROZEN = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`at` in seconds since the beginning; `target`: a part, an edge, or a mode of the provider. `order` and `back`: of
    a swizzle, in which order edges are cut and restored.
    """

    at: float
    kind: str
    target: str = ""
    lasts: float = 0.0
    order: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.1f} s" if self.lasts else ""
        return f"{self.at:6.1f} s  {self.kind} {self.target}{lasts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """How many faults of each kind there are, in so many seconds. `edges`: of one edge; `modes`: of the provider."""

    seconds: float
    workers: int
    servers: int
    postgres: int
    temporal: int
    frozen: int
    swizzles: int
    edges: int
    modes: int


#: As docs/adr/0041-nemesis.md has it. Each edge is cut by each swizzle.
WHOLE = Least(
    seconds=120, workers=10, servers=5, postgres=4, temporal=3, frozen=3, swizzles=5, edges=len(OF_EDGES), modes=6
)
SHORT = Least(seconds=30, workers=2, servers=2, postgres=1, temporal=1, frozen=1, swizzles=1, edges=3, modes=2)


def plan(seed: int, least: Least) -> tuple[Fault, ...]:
    """In the order of their times: two tracks, one of processes, one of what lies between them and of the provider,
    each with a fault every 3 to 8 seconds.
    """
    rng = random.Random(f"nemesis {seed}")
    faults = [*_of_processes(rng, least), *_of_ways(rng, least)]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _times(rng: random.Random, count: int, seconds: float) -> list[float]:
    """So many in so many seconds, as far as the shortest pause allows; none is longer than the longest."""
    mean = max(seconds / count, SHORTEST)
    spread = min(mean - SHORTEST, LONGEST - mean)
    return [mean * (number + 1) + rng.uniform(-spread, spread) / 2 for number in range(count)]


def _of_processes(rng: random.Random, least: Least) -> Iterator[Fault]:
    left = [(KILL, WORKERS[n % 2]) for n in range(least.workers)]
    left += [(KILL, SERVERS[n % 2]) for n in range(least.servers)]
    left += [(KILL, POSTGRES)] * least.postgres + [(KILL, TEMPORAL)] * least.temporal
    # A worker in any case: whoever takes over from it must not do twice what it did.
    frozen = [rng.choice(WORKERS), rng.choice((SERVER, SECOND_SERVER)), TEMPORAL]
    left += [(FREEZE, target) for target in frozen[: least.frozen]]
    lately: list[tuple[str, float]] = []
    for at in _times(rng, len(left), least.seconds):
        # Somebody who is just coming back is left alone, and so is who does not move.
        busy = {target for target, _ in lately[-2:]} | {target for target, until in lately if until > at}
        free = [one for one in left if one[1] not in busy] or left
        # Who is frozen late would hold up the end.
        late = [one for one in free if one[0] == FREEZE and at + FROZEN + LONGEST > least.seconds]
        kind, target = chosen = rng.choice(late or free)
        left.remove(chosen)
        lasts = FROZEN if kind == FREEZE else 0.0
        lately.append((target, at + lasts))
        yield Fault(at=at, kind=kind, target=target, lasts=lasts)


def _of_ways(rng: random.Random, least: Least) -> Iterator[Fault]:
    kinds: list[tuple[str, str]] = [(SWIZZLE, "")] * least.swizzles
    kinds += list(zip(rng.sample(OF_EDGES, least.edges), rng.sample(EDGES, least.edges), strict=True))
    kinds += [(PROVIDER, mode) for mode in rng.sample(sorted(MODES), least.modes)]
    rng.shuffle(kinds)
    times = _times(rng, len(kinds), least.seconds)
    for (kind, target), at, following in zip(kinds, times, [*times[1:], times[-1] + LONGEST], strict=True):
        lasts = min(rng.uniform(SHORTEST, 6.0), following - at - 0.2)
        order, back = (_order(rng), _order(rng)) if kind == SWIZZLE else ((), ())
        yield Fault(at=at, kind=kind, target=target, lasts=lasts, order=order, back=back)


def _order(rng: random.Random) -> tuple[str, ...]:
    return tuple(rng.sample(EDGES, len(EDGES)))


def counted(faults: Sequence[Fault]) -> dict[str, int]:
    """How many there are of each kind; kills by the part."""
    names = [f"{fault.kind} {fault.target.partition('-')[0]}" if fault.kind == KILL else fault.kind for fault in faults]
    return {name: names.count(name) for name in dict.fromkeys(sorted(names))}
