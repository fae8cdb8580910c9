"""API keys: how one is made, told apart from junk, and kept without being kept."""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.scope import Role

MARK = "orc_"
MAX_LENGTH = 256
#: Secret scanners look for this, in the dialect that they all read (docs/keys.md, deploy/gitleaks.toml).
PATTERN = r"orc_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9a-f]{8}"
#: Characters of a key that was made here.
KEY_LENGTH = len(MARK) + 8 + 1 + 43 + 1 + 8

_ALPHABET = string.digits + string.ascii_letters
_MADE_HERE = re.compile(PATTERN)
_WRITTEN = re.compile(PATTERN.encode())
_VISIBLE = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: all there is to know of it but the key itself.

    By `prefix` people tell keys apart: see `prefix_of`. `rotated_from` names the key it took over from, and
    `origin_id` the first of all that took over from one another; None: none was before it.
    """

    api_key_id: str
    name: str
    role: Role
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rotated_from: str | None
    origin_id: str | None


def make_key() -> str:
    """A new key: `orc_<id>_<secret>_<checksum>`. The secret has 256 bits; the checksum tells mistyped keys apart."""
    body = f"{MARK}{_letters(8)}_{_letters(43)}"
    return f"{body}_{_checksum(body)}"


def is_possible(key: str) -> bool:
    """False for what cannot be a key of ours: empty, not visible ASCII, too long, or with a wrong checksum."""
    if _VISIBLE.fullmatch(key) is None:
        return False
    if not key.startswith(MARK):
        return True  # chosen by whoever set up the instance
    return _MADE_HERE.fullmatch(key) is not None and key[-8:] == _checksum(key[:-9])


def written_in(text: bytes) -> Iterator[tuple[int, str]]:
    """Where keys that were made here stand in a text, and which; what only looks like one has another checksum."""
    for found in _WRITTEN.finditer(text):
        key = found[0].decode("ascii")
        if is_possible(key):
            yield found.start(), key


def digest(secret: bytes, key: str) -> bytes:
    """What is stored instead of the key; `secret` is the instance's. 32 bytes."""
    return hmac.digest(secret, key.encode(), "sha256")


def prefix_of(key: str, key_digest: bytes) -> str:
    """Enough of a key to tell it from others, and no part of its secret: its beginning, or `#` and that of its digest
    where somebody chose the key, for then all of it is secret.
    """
    return key[: len(MARK) + 8] if key.startswith(MARK) else f"#{key_digest.hex()[:8]}"


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
