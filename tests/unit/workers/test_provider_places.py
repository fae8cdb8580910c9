"""Who is called, where not everybody can be."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from workers import provider_places
from workers.provider_places import NoPlace, Provider, ProviderPlaces, Task

STALLED, WELL, THIRD = Provider(1, "stalled.example"), Provider(1, "well.example"), Provider(2, "well.example")


def calls(places: ProviderPlaces, stay: ExitStack, provider: Provider, count: int, first: int = 0) -> int:
    """How many of so many calls are made; they go on until `stay` is closed."""
    made = 0
    for number in range(first, first + count):
        try:
            stay.enter_context(places.place(Task(provider.name, number), provider))
        except NoPlace:
            continue
        made += 1
    return made


def test_one_provider_alone_has_all_places() -> None:
    places = ProviderPlaces(32)
    with ExitStack() as stay:
        assert calls(places, stay, STALLED, 50) == 32
    with ExitStack() as stay:
        assert calls(places, stay, STALLED, 50) == 32


def test_a_provider_that_keeps_all_places_leaves_each_other_one_its_share() -> None:
    places = ProviderPlaces(32)
    with ExitStack() as stay:
        assert calls(places, stay, STALLED, 50) == 32
        with ExitStack() as others:
            assert calls(places, others, WELL, 50) == 16
            assert calls(places, others, THIRD, 50) == 10, "the same host, of another project"
            assert calls(places, others, STALLED, 50) == 0
        assert calls(places, stay, WELL, 1) == 1


def test_there_is_a_place_for_everybody_who_has_none() -> None:
    places = ProviderPlaces(2)
    with ExitStack() as stay:
        assert all(calls(places, stay, Provider(number, "p"), 3) >= 1 for number in range(10))


def test_who_came_in_vain_is_told_so_before_anything_is_done_for_him_until_there_is_a_place() -> None:
    places = ProviderPlaces(1)
    task = Task("e", 7)
    places.look(task)
    with ExitStack() as stay:
        calls(places, stay, STALLED, 1)
        with pytest.raises(NoPlace), places.place(task, STALLED):
            pytest.fail("there was a place")
        with pytest.raises(NoPlace):
            places.look(task)
        places.look(Task("e", 8))
    places.look(task)
    with places.place(task, STALLED):
        places.look(task)


def test_however_many_wait_few_come_back_in_a_second() -> None:
    places = ProviderPlaces(1)
    pauses = []
    with ExitStack() as stay:
        calls(places, stay, STALLED, 1)
        for number in range(2000):
            with pytest.raises(NoPlace) as refused, places.place(Task("e", number), STALLED):
                pytest.fail("there was a place")
            pauses.append(refused.value.retry_after)

    assert timedelta(seconds=0.5) <= pauses[0] <= timedelta(seconds=1)
    assert timedelta(seconds=10) <= pauses[400] <= timedelta(seconds=41)
    assert timedelta(seconds=30) <= pauses[-1] <= timedelta(minutes=1)


def test_who_does_not_come_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    places = ProviderPlaces(1, clock=lambda: now)
    monkeypatch.setattr(provider_places, "WAITING", 100)
    with ExitStack() as stay:
        calls(places, stay, STALLED, 500)
        assert len(places._waiting) == 100
        now = 3600.0
        calls(places, stay, STALLED, 1, first=1000)
        assert len(places._waiting) == 1
