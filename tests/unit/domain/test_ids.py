"""Ids and names."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.ids import description_faults, id_fault, name_faults, new_id, new_uuid

ID_CHARACTERS = string.ascii_letters + string.digits + "_.:-"


@given(st.text(ID_CHARACTERS, min_size=1, max_size=128).filter(lambda text: text not in (".", "..")))
def test_an_id_of_the_allowed_characters_is_fine(chosen: str) -> None:
    assert id_fault(chosen, "id") is None


@given(st.text(min_size=1, max_size=128).filter(lambda text: not set(text) <= set(ID_CHARACTERS)))
def test_an_id_with_another_character_is_refused(chosen: str) -> None:
    fault = id_fault(chosen, "audience.id")

    assert fault is not None
    assert (fault.path, fault.reason) == ("audience.id", "INVALID_ID")


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [("", "REQUIRED"), ("x" * 129, "TOO_LONG"), (".", "INVALID_ID"), ("..", "INVALID_ID"), ("a\n", "INVALID_ID")],
)
def test_a_faulty_id_is_refused_by_name(chosen: str, reason: str) -> None:
    fault = id_fault(chosen, "id")

    assert fault is not None
    assert fault.reason == reason


def test_ids_made_here_sort_as_they_were_made() -> None:
    made = [new_id("aud") for _ in range(10_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(id_fault(each, "id") is None for each in made)


def test_uuids_are_of_version_7() -> None:
    assert new_uuid().version == 7


@pytest.mark.parametrize(
    ("name", "reasons"),
    [("", ["REQUIRED"]), (" \t", ["REQUIRED"]), ("x" * 255, []), ("x" * 256, ["TOO_LONG"]), ("Ünïcödé 🙂", [])],
)
def test_a_name_is_some_text(name: str, reasons: list[str]) -> None:
    assert [fault.reason for fault in name_faults(name, "name")] == reasons


def test_a_description_may_be_empty_but_not_endless() -> None:
    assert description_faults("", "description") == []
    assert [fault.reason for fault in description_faults("x" * 2001, "description")] == ["TOO_LONG"]
