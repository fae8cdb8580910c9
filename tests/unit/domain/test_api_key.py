"""Keys as such."""

from __future__ import annotations

import pytest

from orchestrator.domain.api_key import digest, is_possible, make_key, prefix_of


def test_no_two_keys_are_alike_and_all_are_possible() -> None:
    keys = {make_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(is_possible(key) for key in keys)


def test_a_mistyped_key_is_told_without_asking_anybody() -> None:
    key = make_key()
    spoiled = [key[:place] + ("a" if key[place] != "a" else "b") + key[place + 1 :] for place in range(4, len(key))]

    assert not any(is_possible(wrong) for wrong in spoiled)
    assert not is_possible(key[:-1])
    assert not is_possible(key + "0")


@pytest.mark.parametrize("key", ["my-own-key", "x" * 256, "K-12345678", "x"])
def test_keys_that_somebody_chose_are_taken_as_they_are(key: str) -> None:
    assert is_possible(key)


@pytest.mark.parametrize("key", ["", "x" * 257, "with a space", "ümlaut-1234", "tab\tbed-1", "nul\x00nul-1"])
def test_what_no_header_can_carry_is_no_key(key: str) -> None:
    assert not is_possible(key)


def test_the_prefix_shows_nothing_of_the_secret() -> None:
    key = make_key()

    assert prefix_of(key, digest(b"one", key)) == key[:12]
    chosen = "owner-chosen-key"
    assert prefix_of(chosen, digest(b"one", chosen)) == f"#{digest(b'one', chosen).hex()[:8]}"


def test_digests_depend_on_the_instance() -> None:
    assert digest(b"one", "key") != digest(b"two", "key")
    assert len(digest(b"one", "key")) == 32
