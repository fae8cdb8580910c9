"""How many calls work at once, and who waits in line meanwhile."""

from __future__ import annotations

import asyncio
from asyncio import Task

import pytest

from orchestrator.api.adaptive_places import FEWEST, LATE, AdaptivePlaces
from orchestrator.storage.pool import FOR_LONG, Places


class Crowd:
    """Takes places, in tasks that are told apart by name."""

    def __init__(self, count: int) -> None:
        self.now = 0.0
        self.places = Places(count, clock=lambda: self.now)
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
    crowd.now += 0.1
    await crowd.come("x", of="quiet")
    await crowd.leave("a", of="flood")
    assert crowd.inside == "bx"

    assert crowd.places.shortest_wait() == pytest.approx(0.1)
    assert crowd.places.shortest_wait() == pytest.approx(0.1), "nobody is let in, and c waits"


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


async def test_who_computes_for_long_is_not_passed_by_all_others() -> None:
    crowd = Crowd(2)
    await crowd.come("a", "b", of="flood")
    await crowd.come("x", of="quiet", heavy=True)
    await crowd.come("c", "d", of="flood")

    await crowd.leave("a", of="flood")
    assert crowd.inside == "bx"


async def test_who_has_waited_for_long_is_next_however_many_he_has() -> None:
    crowd = Crowd(2)
    await crowd.come("a", "b", "c", of="slow")
    crowd.now += FOR_LONG + 0.1
    await crowd.come("x", "y", of="quick")

    await crowd.leave("a", of="slow")
    assert crowd.inside == "bc"
    await crowd.leave("b", of="slow")
    assert crowd.inside == "cx"


async def test_what_computes_for_long_hides_no_queue_and_counts_for_none_of_its_caller_s_others() -> None:
    crowd = Crowd(3)
    await crowd.come("x", of="both", heavy=True)
    await crowd.come("a", "b", "c", of="flood")
    crowd.places.shortest_wait()
    crowd.now += 0.1
    await crowd.leave("x", of="both", heavy=True)
    await crowd.come("y", of="both", heavy=True)
    assert crowd.inside == "abc"
    assert crowd.places.shortest_wait() == pytest.approx(0.1)

    await crowd.come("d", of="flood")
    crowd.now += 0.1
    assert crowd.places.shortest_wait() == pytest.approx(0.1), "nobody is let in, and he waits"


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
