"""Keys for what travels through Temporal, by their ids (kids): the first encrypts, all of them decrypt.

No key is used as it is. Of each one key for bindings is derived, and one for every workflow: a binding is what stands
for a workflow beside a ciphertext, and says nothing to who has not the key.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

#: In front of a list of keys: nothing is encrypted from now on, and what was is still read.
PLAIN = "plain"

#: Bytes of a key, and of a binding.
KEY, BINDING = 32, 16

_FOR_BINDINGS = b"orchestrator payload binding 1"
_FOR_WORKFLOWS = b"orchestrator payload workflow 1"

#: Workflows whose keys are remembered: more than a process works on at once, and deriving one takes some 20 µs.
_REMEMBERED = 4_096


class Keyring:
    """`first` is the kid that encrypts; None: nothing is encrypted."""

    def __init__(self, keys: Mapping[str, bytes], first: str | None) -> None:
        self.kids = frozenset(keys)
        self.first = first
        self._for_bindings = {kid: _derived(key, _FOR_BINDINGS) for kid, key in keys.items()}
        self._for_workflows = {kid: _derived(key, _FOR_WORKFLOWS) for kid, key in keys.items()}
        self.binding = lru_cache(maxsize=_REMEMBERED)(self._binding)
        self.cipher = lru_cache(maxsize=_REMEMBERED)(self._cipher)

    @classmethod
    def of(cls, entries: Iterable[str]) -> Keyring:
        """Of `kid:key`, newest first, or `plain` before all others, as settings have them. Raises ValueError for a key
        that is none; its text does not hold it.
        """
        texts = list(entries)
        plain = texts[:1] == [PLAIN]
        keys: dict[str, bytes] = {}
        for text in texts[plain:]:
            kid, _, key = text.partition(":")
            keys[kid] = _decoded(key)
            if len(keys[kid]) != KEY:
                raise ValueError(f"the key {kid!r} does not have {KEY} bytes")
        return cls(keys, None if plain else next(iter(keys), None))

    def _binding(self, kid: str, namespace: str, workflow_id: str) -> bytes:
        """What stands for a workflow beside its ciphertexts."""
        # With its length before it, so that no two pairs are one text.
        told = f"{len(namespace)}:{namespace}:{workflow_id}".encode()
        return hmac.digest(self._for_bindings[kid], told, "sha256")[:BINDING]

    def _cipher(self, kid: str, binding: bytes) -> AESGCM:
        """The cipher of one workflow. Raises KeyError for a kid that is not among ours."""
        return AESGCM(HKDFExpand(SHA256(), KEY, binding).derive(self._for_workflows[kid]))


#: Nothing is encrypted, and nothing that was can be read.
NO_KEYS = Keyring({}, None)


def make_payload_key(kid: str = "k1") -> str:
    """A new key, as settings have it."""
    return f"{kid}:{base64.b64encode(os.urandom(KEY)).decode()}"


def _decoded(key: str) -> bytes:
    """Of either alphabet of base64, with its `=` or without."""
    text = key.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY, salt=None, info=purpose).derive(key)
