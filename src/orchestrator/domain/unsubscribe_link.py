"""The links by which people refuse messages: who has one may do exactly that, without a key.

A token is the question "this subject, this channel, this category?", encrypted and authenticated (AES-SIV), so it
names nobody and cannot be made up. The same question has the same token: every try of a send says the same. Tokens do
not expire: mail is kept for years, and a link in it has to work as long as its secret is known here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from orchestrator.domain.scope import SubjectKey

#: In the list of secrets: the key that this instance has of its own.
INSTANCE = "instance"
PATH = "/unsubscribe"

_PURPOSE = b"orchestrator: unsubscribe links, 1"
_FORM = 1
_HEAD = struct.Struct(">BIHQ")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscription:
    """What its holder may have done: nothing of this category goes to the subject by this channel any more."""

    key: SubjectKey
    channel: str
    category: str


@dataclass(frozen=True, slots=True)
class UnsubscribeLinks:
    """`public_url`: where people reach the server, without a slash at its end; None: nowhere, and there are no links.

    Links are made with the first secret and read with each.
    """

    _ciphers: tuple[AESSIV, ...] = field(default=(), repr=False)
    public_url: str | None = None

    @classmethod
    def of(cls, secrets: Iterable[str], instance_secret: bytes, public_url: str | None) -> Self:
        """`secrets`: newest first, each the word INSTANCE or a text of our operator's; none means INSTANCE alone."""
        chosen = tuple(secrets) or (INSTANCE,)
        keys = (instance_secret if secret == INSTANCE else secret.encode() for secret in chosen)
        return cls(tuple(AESSIV(hmac.digest(key, _PURPOSE, hashlib.sha512)) for key in keys), public_url)

    def url(self, wanted: Unsubscription) -> str | None:
        """The link; None where people cannot reach the server."""
        if self.public_url is None or not self._ciphers:
            return None
        return f"{self.public_url}{PATH}/{self.token(wanted)}"

    def token(self, wanted: Unsubscription) -> str:
        """What stands in a link: letters, digits, `-` and `_`, at most 256."""
        key = wanted.key
        head = _HEAD.pack(_FORM, key.project_no, key.bucket, key.subject_no)
        sealed = self._ciphers[0].encrypt(head + f"{wanted.channel}\0{wanted.category}".encode(), None)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def read(self, token: str) -> Unsubscription | None:
        """What the holder of this token may do; None when it is none of ours."""
        if _TOKEN.fullmatch(token) is None:
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        for cipher in self._ciphers:
            try:
                return _unsubscription(cipher.decrypt(sealed, None))
            except (InvalidTag, ValueError):
                continue
        return None


def _unsubscription(opened: bytes) -> Unsubscription | None:
    if len(opened) <= _HEAD.size or opened[0] != _FORM:
        return None
    _, project_no, bucket, subject_no = _HEAD.unpack_from(opened)
    channel, _, category = opened[_HEAD.size :].decode().partition("\0")
    key = SubjectKey(project_no=project_no, bucket=bucket, subject_no=subject_no)
    return Unsubscription(key=key, channel=channel, category=category)
