from __future__ import annotations

import pytest

from orchestrator.domain.subject import bucket_of, id_fault, is_time_zone, subject_hash


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
