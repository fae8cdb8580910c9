"""Signatures of outgoing webhooks, after Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """The secrets that sign, newest first. While a receiver changes over, two are there and each signs."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, secrets: Iterable[str]) -> Self:
        """From their form in settings: `whsec_` and 24 to 64 bytes in base64. Raises ValueError, without the secret."""
        return cls(tuple(_key(secret) for secret in secrets))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three headers of a message; `timestamp` is this try's time, in seconds since 1970."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in self._keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if 24 <= len(key) <= 64:
            return key
    raise ValueError(f"a signing secret is {_PREFIX} and 24 to 64 bytes in base64")
