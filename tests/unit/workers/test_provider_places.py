"""Who is called, where not everybody can be."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from workers import provider_places
from workers.provider_places import AWAY_AFTER, BETWEEN_CALLS, NoPlace, Provider, ProviderPlaces, Task

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
    assert timedelta(seconds=20) <= pauses[400] <= timedelta(seconds=41)
    assert timedelta(seconds=22.5) <= pauses[-1] <= timedelta(seconds=45)


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


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tried(places: ProviderPlaces, provider: Provider, number: int, *, there: bool) -> bool:
    """Whether a call was made, of a provider that is there or is not."""
    try:
        with places.place(Task(provider.name, number), provider) as place:
            if there:
                place.reached()
            else:
                place.unreached()
    except NoPlace:
        return False
    return True


def test_a_provider_that_is_not_reached_is_called_once_a_second_until_it_is() -> None:
    clock = Clock()
    places = ProviderPlaces(32, clock=clock)

    at_once = sum(tried(places, STALLED, number, there=False) for number in range(1000))
    in_a_minute = 0
    for _ in range(600):
        clock.now += 0.1
        in_a_minute += sum(tried(places, STALLED, number, there=False) for number in range(5))
    others = sum(tried(places, WELL, number, there=True) for number in range(100))
    clock.now += 1
    back = sum(tried(places, STALLED, number, there=True) for number in range(1000))

    assert at_once == AWAY_AFTER
    assert 50 <= in_a_minute <= 60
    assert others == 100
    assert back == 1000


def test_who_is_reached_now_and_then_is_not_away() -> None:
    places = ProviderPlaces(32, clock=Clock())

    made = sum(tried(places, WELL, number, there=number % AWAY_AFTER == 0) for number in range(1000))

    assert made == 1000


def test_calls_that_say_nothing_of_the_provider_bring_it_back_no_sooner() -> None:
    clock = Clock()
    places = ProviderPlaces(32, clock=clock)
    for number in range(AWAY_AFTER):
        assert tried(places, STALLED, number, there=False)
    clock.now += BETWEEN_CALLS
    with places.place(Task("e", 1), STALLED):
        pass  # whatever was to be said was refused before it was said

    assert not tried(places, STALLED, 2, there=True)
    clock.now += BETWEEN_CALLS
    assert tried(places, STALLED, 3, there=True)
    assert tried(places, STALLED, 4, there=True)


def test_those_who_come_back_are_told_at_once_that_it_is_still_away() -> None:
    clock = Clock()
    places = ProviderPlaces(32, clock=clock)
    for number in range(AWAY_AFTER):
        tried(places, STALLED, number, there=False)
    task = Task("e", 7)
    with pytest.raises(NoPlace), places.place(task, STALLED):
        pytest.fail("there was a place")

    with pytest.raises(NoPlace):
        places.look(task)
    clock.now += BETWEEN_CALLS
    places.look(task)


def test_of_very_many_that_are_away_those_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    places = ProviderPlaces(32, clock=Clock())
    monkeypatch.setattr(provider_places, "WAITING", 100)

    for number in range(500):
        tried(places, Provider(1, f"{number}.example"), 0, there=False)

    assert len(places._silences) == 100
