"""The chain that the audit log of a project is: each entry has a seal, and whoever changes one changes all later ones.

Who holds a seal outside of the database (an anchor) can tell that nothing up to it was changed, reordered, left out,
put in or cut off since, whatever rights were used for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

HASH_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The `seq`-th seal of a project, counted from 1, and its hash of HASH_BYTES."""

    seq: int
    hash: bytes


#: Stands before the first seal.
GENESIS = Seal(seq=0, hash=bytes(HASH_BYTES))


def next_seal(before: Seal, row: str) -> Seal:
    """The seal of an entry: sha256 over the hash before it, its own number (8 bytes, big-endian), and the row's text in
    UTF-8. Pure arithmetic, so that others can do it again.
    """
    seq = before.seq + 1
    return Seal(seq=seq, hash=hashlib.sha256(before.hash + seq.to_bytes(8) + row.encode()).digest())


def hash_of(text: str) -> bytes:
    """The hash that 64 hexadecimal digits in lower case stand for. Raises ValueError."""
    if _HEX.fullmatch(text) is None:
        raise ValueError("must be 64 hexadecimal digits in lower case")
    return bytes.fromhex(text)


class MisfitKind(Enum):
    """What is wrong at the first place where log, chain and anchors do not fit."""

    #: The entry is not what was sealed, or the seal not what was made.
    CHANGED = "changed"
    #: An entry was sealed, or waited for its seal, and is not in the log.
    MISSING = "missing"
    #: A seal is not there, and later ones are.
    SEAL_MISSING = "seal_missing"
    #: An entry has no seal and does not wait for one.
    UNSEALED = "unsealed"
    #: All fits but an anchor: what stands up to it was made anew.
    REWRITTEN = "rewritten"
    #: An anchor says that there was more.
    CUT_OFF = "cut_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """`seq`: the first seal that does not fit; None for an entry without one. `audit_no`: the entry, where it is known.

    Of REWRITTEN, entries from `seq` to `to_seq` are those that were not as they are now when the anchor was kept.
    """

    kind: MisfitKind
    seq: int | None = None
    to_seq: int | None = None
    audit_no: int | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        entry = f"entry {self.audit_no}" if self.audit_no is not None else f"seal {self.seq}"
        match self.kind:
            case MisfitKind.CHANGED:
                return f"{entry} (seal {self.seq}) is not what was sealed"
            case MisfitKind.MISSING if self.seq is None:
                return f"{entry} was written and is gone, before it was sealed"
            case MisfitKind.MISSING:
                return f"{entry} (seal {self.seq}) was sealed and is gone"
            case MisfitKind.SEAL_MISSING:
                return f"{entry} is gone, and later ones are there"
            case MisfitKind.UNSEALED:
                return f"{entry} has no seal and does not wait for one"
            case MisfitKind.REWRITTEN:
                return f"an entry from seal {self.seq} to {self.to_seq} was changed, and all was sealed anew"
            case MisfitKind.CUT_OFF:
                return f"entries from seal {self.seq} on are gone: there were {self.to_seq}"
            case _:
                assert_never(self.kind)


class Anchors:
    """Seals of one project that were kept elsewhere."""

    def __init__(self, seals: Iterable[Seal] = ()) -> None:
        self._by_seq: dict[int, set[bytes]] = {}
        for seal in seals:
            self._by_seq.setdefault(seal.seq, set()).add(seal.hash)

    def __len__(self) -> int:
        return len(self._by_seq)

    @property
    def last(self) -> int:
        """The greatest number of them; 0 without any."""
        return max(self._by_seq, default=0)

    def about(self, seq: int) -> bool:
        """Whether one is kept of this number."""
        return seq in self._by_seq

    def fit(self, seal: Seal) -> bool:
        """Whether all that were kept of this number are this seal; also where none was."""
        return self._by_seq.get(seal.seq, {seal.hash}) == {seal.hash}


def by_project(found: Iterable[tuple[str, Seal]]) -> Mapping[str, Anchors]:
    """Anchors by project id."""
    seals: dict[str, list[Seal]] = {}
    for project_id, seal in found:
        seals.setdefault(project_id, []).append(seal)
    return {project_id: Anchors(kept) for project_id, kept in seals.items()}
