"""How late answers are that cost nothing."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.api.pulse import KEPT_FOR, Pulse

on_time = pytest.approx(0.0, abs=1e-9)


class Postgres:
    """Answers after as long as it is told, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulse = Pulse(self._answer, is_wanted=lambda: True, timer=lambda: self.now)
        self._takes = 0.0

    async def hang(self) -> None:
        self._takes = float("inf")
        await self.pulse.beat()

    async def _answer(self) -> None:
        if self._takes == float("inf"):
            await asyncio.Event().wait()
        if self._takes < 0:
            raise ConnectionError
        self.now += self._takes

    async def answers_after(self, *seconds: float) -> float | None:
        for self._takes in seconds:
            await self.pulse.beat()
        return self.pulse.lateness()


async def test_the_way_there_and_back_is_no_lateness() -> None:
    assert await Postgres().answers_after(0.004, 0.004, 0.004) == on_time


async def test_half_of_the_answers_are_as_late() -> None:
    postgres = Postgres()
    await postgres.answers_after(0.001, 0.001)

    assert await postgres.answers_after(0.001, 0.003, 0.050) == pytest.approx(0.002)
    assert await postgres.answers_after(0.001, 0.001, 0.001) == on_time, "what was told is told once"


async def test_too_few_answers_say_nothing_nor_does_a_postgres_that_is_away() -> None:
    postgres = Postgres()

    assert await postgres.answers_after() is None
    assert await postgres.answers_after(0.01) is None
    assert await postgres.answers_after(-1, -1, -1) is None


async def test_one_answer_is_enough_that_is_so_late_that_there_cannot_be_more() -> None:
    postgres = Postgres()
    await postgres.answers_after(0.001, 0.001)

    assert await postgres.answers_after(0.5) == pytest.approx(0.499)


async def test_an_answer_that_does_not_come_is_late_meanwhile() -> None:
    postgres = Postgres()
    await postgres.answers_after(0.001, 0.001)
    asking = asyncio.create_task(postgres.hang())
    await asyncio.sleep(0)
    postgres.now += 0.2

    assert postgres.pulse.lateness() == pytest.approx(0.199)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert postgres.pulse.lateness() is None


async def test_a_longer_way_is_the_usual_one_after_two_minutes() -> None:
    postgres = Postgres()
    await postgres.answers_after(0.001, 0.001)
    late = []
    for _ in range(3):
        late.append(await postgres.answers_after(0.010, 0.010))
        postgres.now += KEPT_FOR

    assert late == [pytest.approx(0.009), pytest.approx(0.009), on_time]
