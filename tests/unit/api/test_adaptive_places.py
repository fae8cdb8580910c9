"""How many calls work at once, and who waits in line meanwhile."""

from __future__ import annotations

import asyncio
from asyncio import Task

from orchestrator.api.adaptive_places import FEWEST, LATE, AdaptivePlaces
from orchestrator.storage.pool import Places


class Crowd:
    """Takes places, in tasks that are told apart by name."""

    def __init__(self, count: int) -> None:
        self.places = Places(count)
        self._tasks: dict[str, Task[None]] = {}

    async def come(self, *names: str, of: str | None = None, heavy: bool = False) -> None:
        for name in names:
            self._tasks[name] = asyncio.create_task(self.places.take(of, heavy=heavy))
        await asyncio.sleep(0)

    async def leave(self, name: str, *, of: str | None = None, heavy: bool = False) -> None:
        assert self._tasks.pop(name).done()
        self.places.give_back(of, heavy=heavy)
        await asyncio.sleep(0)

    async def give_up(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def inside(self) -> str:
        return "".join(sorted(name for name, task in self._tasks.items() if task.done()))


async def test_fewer_places_take_none_away_and_who_comes_then_waits_in_line() -> None:
    crowd = Crowd(3)
    await crowd.come("a", "b", "c")
    crowd.places.allow(1)
    await crowd.come("d", "e")
    assert crowd.inside == "abc"

    await crowd.leave("a")
    await crowd.leave("b")
    assert crowd.inside == "c"
    await crowd.leave("c")
    assert crowd.inside == "d"
    crowd.places.allow(2)
    await asyncio.sleep(0)
    assert crowd.inside == "de"


async def test_next_is_who_has_fewest_of_the_places_and_of_equals_who_came_first() -> None:
    crowd = Crowd(2)
    await crowd.come("a", "b", "c", "d", of="flood")
    await crowd.come("x", "y", of="quiet")

    await crowd.leave("a", of="flood")
    assert crowd.inside == "bx"
    await crowd.leave("b", of="flood")
    assert crowd.inside == "cx"
    await crowd.leave("c", of="flood")
    assert crowd.inside == "dx"
    await crowd.leave("d", of="flood")
    assert crowd.inside == "xy"


async def test_a_queue_of_one_caller_stands_although_others_pass_it() -> None:
    crowd = Crowd(2)
    await crowd.come("a", "b", "c", of="flood")
    assert crowd.places.shortest_wait() == 0
    await asyncio.sleep(0.02)
    await crowd.come("x", of="quiet")
    await crowd.leave("a", of="flood")
    assert crowd.inside == "bx"

    assert (crowd.places.shortest_wait() or 0) >= 0.02
    assert crowd.places.shortest_wait() is None


async def test_who_computes_for_long_has_a_place_beside_the_few_and_no_more_than_there_are() -> None:
    crowd = Crowd(3)
    crowd.places.allow(1)
    await crowd.come("a", "b")
    await crowd.come("x", "y", "z", heavy=True)
    assert crowd.inside == "axy"

    await crowd.leave("x", heavy=True)
    assert crowd.inside == "ayz"
    await crowd.leave("a")
    assert crowd.inside == "byz"
    assert crowd.places.taken() == 3


async def test_who_gives_up_in_line_or_as_it_is_his_turn_costs_nobody_a_place() -> None:
    crowd = Crowd(1)
    await crowd.come("a", "b", "c", "d")
    await crowd.give_up("b")
    crowd.places.give_back(heavy=False)  # it is the turn of c, who has not heard of it yet
    await crowd.give_up("c")
    await asyncio.sleep(0)

    assert crowd.inside == "ad"
    assert crowd.places.taken() == 1


async def test_who_comes_while_others_wait_stands_behind_them() -> None:
    crowd = Crowd(1)
    await crowd.come("a", "b")
    crowd.places.give_back(heavy=False)
    await crowd.come("c")

    assert crowd.inside == "ab"


def test_places_are_fewer_while_cores_are_short_and_all_again_when_they_are_not() -> None:
    places = Places(16)
    at_work = AdaptivePlaces(places)
    allowed = []
    for lateness in [2 * LATE] * 4 + [LATE / 2] * 7:
        at_work.decide(lateness)
        allowed.append(places.allowed)

    assert allowed == [8, FEWEST, FEWEST, FEWEST, 6, 8, 10, 12, 14, 16, 16]
    assert not at_work.are_fewer


def test_of_few_places_none_is_taken_away() -> None:
    places = Places(2)
    AdaptivePlaces(places).decide(1.0)

    assert places.allowed == 2
