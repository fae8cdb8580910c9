"""A number for a subject that is as good as random, and the same on every machine and on every try."""

from __future__ import annotations

import hashlib

#: Characters of a salt.
MAX_SALT = 128


def drawn(salt: str, subject_id: str) -> int:
    """The first 64 bits of SHA-256(salt, NUL, subject id)."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{subject_id}".encode()).digest()[:8])
