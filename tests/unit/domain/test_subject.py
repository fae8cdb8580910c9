from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.subject import Subject, bucket_of, id_fault, is_time_zone, subject_hash, together


# The first is the check value of CRC-32 (0xCBF43926); all of them are stored and must never change.
@pytest.mark.parametrize(
    ("subject_id", "bucket"), [("123456789", 0x26), ("a", 0x43), ("user-1", 0x14), ("a:b.c_d-e", 0xDB)]
)
def test_a_bucket_is_the_last_byte_of_the_crc_32(subject_id: str, bucket: int) -> None:
    assert bucket_of(subject_id) == bucket


def test_buckets_are_filled_evenly() -> None:
    filled = [0] * 256
    for number in range(25_600):
        filled[bucket_of(f"user-{number}")] += 1

    assert min(filled) > 50
    assert max(filled) < 150


@pytest.mark.parametrize("subject_id", ["a", "A.b_c:d-9", "x" * 128, "..", "0"])
def test_letters_digits_and_four_marks_make_an_id(subject_id: str) -> None:
    assert id_fault(subject_id, "subjectId") is None


@pytest.mark.parametrize(
    ("subject_id", "reason"),
    [
        ("", "REQUIRED"),
        ("x" * 129, "TOO_LONG"),
        ("a b", "INVALID_ID"),
        ("a/b", "INVALID_ID"),
        ("a\n", "INVALID_ID"),
        ("ä", "INVALID_ID"),
        ("a\x00", "INVALID_ID"),
        ("１", "INVALID_ID"),
    ],
)
def test_anything_else_is_a_fault_with_its_path(subject_id: str, reason: str) -> None:
    fault = id_fault(subject_id, "events[3].subjectId")

    assert fault is not None
    assert (fault.path, fault.reason) == ("events[3].subjectId", reason)


@pytest.mark.parametrize("name", ["Europe/Berlin", "UTC", "Etc/GMT+5", "America/Argentina/Ushuaia"])
def test_zones_of_the_database_are_time_zones(name: str) -> None:
    assert is_time_zone(name)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/Europe/Berlin", "localtime", "+02:00", "\x00"])
def test_nothing_else_is_a_time_zone(name: str) -> None:
    assert not is_time_zone(name)


def test_a_ref_tells_people_projects_and_instances_apart_and_is_stable() -> None:
    secret, other = b"s" * 48, b"t" * 48

    refs = {
        subject_hash(secret, "default", "user-1"),
        subject_hash(secret, "default", "user-2"),
        subject_hash(secret, "other", "user-1"),
        subject_hash(other, "default", "user-1"),
    }

    assert len(refs) == 4
    assert subject_hash(secret, "default", "user-1") in refs
    assert all(len(ref) == 32 and "user" not in ref for ref in refs)


MORNING = datetime(2026, 5, 1, 8, tzinfo=UTC)
NOON = MORNING + timedelta(hours=4)


def somebody(subject_id: str, attributes: dict[str, Any], **more: Any) -> Subject:
    known: dict[str, Any] = {"time_zone": None, "revision": 3, "created_at": NOON, "updated_at": NOON, **more}
    return Subject(subject_id=subject_id, attributes=attributes, **known)


@pytest.mark.parametrize(
    ("given", "kept", "both"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": False}, {"a": False}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2, "z": 2}}, {"a": {"x": 1, "y": 2, "z": 2}}),
        ({"a": {"x": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"x": 2}}, {"a": {"x": 2}}),
        ({"a": [1, None]}, {"a": []}, {"a": []}),
        ({"a": [1, None]}, {"a": {}}, {"a": {}}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
        ({"a.b": 1}, {"a": {"b": 2}}, {"a.b": 1, "a": {"b": 2}}),
    ],
)
def test_of_attributes_that_both_have_the_survivors_stay(
    given: dict[str, Any], kept: dict[str, Any], both: dict[str, Any]
) -> None:
    assert together(somebody("given", given), somebody("kept", kept), NOON).attributes == both


def test_the_survivor_is_as_old_as_the_older_one_and_changed_now() -> None:
    given, kept = somebody("given", {}, created_at=MORNING, revision=70), somebody("kept", {})

    both = together(given, kept, MORNING)

    assert (both.subject_id, both.created_at, both.revision) == ("kept", MORNING, 4)
    # Later than before, even by a clock that went back.
    assert both.updated_at == NOON + timedelta(milliseconds=1)


def test_a_time_zone_of_its_own_stays() -> None:
    rome, none = somebody("rome", {}, time_zone="Europe/Rome"), somebody("none", {})

    assert together(rome, none, NOON).time_zone == "Europe/Rome"
    assert together(none, rome, NOON).time_zone == "Europe/Rome"
    assert together(somebody("x", {}, time_zone="UTC"), rome, NOON).time_zone == "Europe/Rome"


def test_ids_of_those_merged_before_come_along() -> None:
    given, kept = somebody("m", {}, alias_ids=("a", "z")), somebody("kept", {}, alias_ids=("b",))

    assert together(given, kept, NOON).alias_ids == ("a", "b", "m", "z")
