"""The chain of the audit log, by itself."""

from __future__ import annotations

import hashlib

import pytest

from orchestrator.domain.audit_chain import GENESIS, Anchors, Misfit, MisfitKind, Seal, by_project, hash_of, next_seal


def test_a_seal_is_what_the_documents_say_it_is() -> None:
    first = next_seal(GENESIS, '[1, "ä"]')
    second = next_seal(first, "[2]")

    assert first.hash == hashlib.sha256(bytes(32) + b"\0\0\0\0\0\0\0\x01" + '[1, "ä"]'.encode()).digest()
    assert second == Seal(seq=2, hash=hashlib.sha256(first.hash + b"\0\0\0\0\0\0\0\x02" + b"[2]").digest())


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", " " + "0" * 63])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        hash_of(text)


def test_a_hash_is_read_as_it_is_written() -> None:
    assert hash_of(bytes(range(32)).hex()) == bytes(range(32))


def test_anchors_that_contradict_each_other_fit_nothing() -> None:
    one, other = Seal(seq=1, hash=b"1" * 32), Seal(seq=1, hash=b"2" * 32)

    assert Anchors([one, one]).fit(one)
    assert not Anchors([one]).fit(other)
    assert not Anchors([one, other]).fit(one)
    assert not Anchors([one, other]).fit(other)


def test_anchors_are_those_of_their_project() -> None:
    one, other = Seal(seq=1, hash=b"1" * 32), Seal(seq=5, hash=b"2" * 32)

    found = by_project([("a", one), ("b", other)])

    assert {project_id: anchors.last for project_id, anchors in found.items()} == {"a": 1, "b": 5}
    assert found["a"].fit(one)
    assert found["a"].fit(other), "nothing is known of that number"
    assert Anchors().last == 0


@pytest.mark.parametrize("kind", MisfitKind)
@pytest.mark.parametrize("seq", [3, None])
def test_every_misfit_is_a_sentence(kind: MisfitKind, seq: int | None) -> None:
    assert Misfit(kind=kind, seq=seq, to_seq=9, audit_no=7).sentence
