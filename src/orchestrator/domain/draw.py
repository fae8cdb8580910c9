"""A number for a subject that is as good as random, and the same on every machine and on every try."""

from __future__ import annotations

import hashlib

#: Characters of a salt.
MAX_SALT = 128


def drawn(salt: str, subject_id: str) -> int:
    """The first 64 bits of SHA-256(salt, NUL, subject id)."""
    return hashed(f"{salt}\0{subject_id}")


def hashed(text: str) -> int:
    """The first 64 bits of its SHA-256, the first byte being the highest."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
