"""How often an address may be wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.api import guesses
from orchestrator.api.guesses import Guesses, TooManyGuesses
from orchestrator.domain.refusals import Unauthenticated


def mark(number: int) -> bytes:
    return number.to_bytes(32)


def guess_wrong(tried: Guesses, peer: str, number: int) -> None:
    with pytest.raises(Unauthenticated), tried.one(peer, mark(number)):
        raise Unauthenticated("UNAUTHENTICATED", "the API key is not valid")


def test_an_address_has_so_many_tries_and_gets_them_back_in_a_minute() -> None:
    now = 1000.0
    tried = Guesses(per_minute=10, clock=lambda: now)
    for number in range(10):
        guess_wrong(tried, "a", number)

    with pytest.raises(TooManyGuesses) as refusal, tried.one("a", mark(11)):
        pytest.fail("the key was looked at")
    assert refusal.value.retry_after == timedelta(seconds=6)
    guess_wrong(tried, "b", 1)

    now += 6
    guess_wrong(tried, "a", 12)
    with pytest.raises(TooManyGuesses), tried.one("a", mark(13)):
        pytest.fail("the key was looked at")
    now += 3600
    for number in range(20, 30):
        guess_wrong(tried, "a", number)
    with pytest.raises(TooManyGuesses), tried.one("a", mark(30)):
        pytest.fail("the key was looked at")


def test_keys_that_are_good_cost_nothing_and_are_let_through_afterwards() -> None:
    tried = Guesses(per_minute=10)
    for number in range(100):
        with tried.one("a", mark(number % 3)):
            pass
    for number in range(10):
        guess_wrong(tried, "a", 100 + number)

    with tried.one("a", mark(1)):
        pass
    with pytest.raises(TooManyGuesses), tried.one("a", mark(50)):
        pytest.fail("the key was looked at")


def test_a_crowd_with_one_key_tries_one_key() -> None:
    tried = Guesses(per_minute=1)

    with tried.one("a", mark(1)), tried.one("a", mark(1)), tried.one("a", mark(1)):
        pass
    with tried.one("a", mark(2)):
        pass


def test_a_try_that_came_to_nothing_is_given_back() -> None:
    tried = Guesses(per_minute=1)

    for number in range(5):
        with pytest.raises(TimeoutError), tried.one("a", mark(number)):
            raise TimeoutError
    guess_wrong(tried, "a", 6)


def test_a_wrong_key_is_not_given_back_when_another_call_with_it_is_cut_off() -> None:
    tried = Guesses(per_minute=1)

    with pytest.raises(TimeoutError), tried.one("a", mark(1)):
        guess_wrong(tried, "a", 1)
        raise TimeoutError

    with pytest.raises(TooManyGuesses), tried.one("a", mark(2)):
        pytest.fail("the key was looked at")


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "ADDRESSES", 100)
    monkeypatch.setattr(guesses, "GOOD_KEYS", 4)
    tried = Guesses()

    for number in range(1_000):
        guess_wrong(tried, f"address {number}", 1)
        with tried.one("regular", mark(number)):
            pass

    assert len(tried._addresses) == 100
    assert len(tried._addresses["regular"].good) == 4
    assert not tried._addresses["regular"].under_way
