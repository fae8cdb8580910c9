"""Addresses of mail, as narrow as what arrives in practice: what is odd is refused, not repaired."""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

MAX_ADDRESS_LENGTH = 254
_MAX_LOCAL_LENGTH = 64
_MAX_MAILBOX_LENGTH = 512

# No quoted parts, no comments, no address literals; ASCII before the @, since few servers take more.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """An address and what people call it, which may be nothing."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """What stands behind the @."""
        return self.address.rpartition("@")[2]


def parse_address(text: str) -> str:
    """The address as it is written in an envelope: a domain of other letters than ASCII's in its ASCII form.

    Raises ValueError with a sentence that does not quote the address.
    """
    local, at, domain = text.rpartition("@")
    if not at or len(local) > _MAX_LOCAL_LENGTH or _LOCAL.fullmatch(local) is None:
        raise ValueError("must be an address such as ann@example.com")
    try:
        # Not Python's own codec, which is of an older standard: it takes straße.example for strasse.example.
        host = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError("must be an address such as ann@example.com") from None
    address = f"{local}@{host}"
    if "." not in host.strip(".") or host.endswith(".") or len(address) > MAX_ADDRESS_LENGTH:
        raise ValueError("must be an address such as ann@example.com")
    return address


def parse_mailbox(text: str) -> Mailbox:
    """`ann@example.com` or `Ann Example <ann@example.com>`. Raises ValueError with a sentence."""
    if len(text) > _MAX_MAILBOX_LENGTH or _CONTROL.search(text):
        raise ValueError(f"must be one line of at most {_MAX_MAILBOX_LENGTH} characters")
    text = text.strip()
    if not text.endswith(">"):
        return Mailbox(name="", address=parse_address(text))
    name, _, address = text[:-1].rpartition("<")
    name = name.strip()
    if len(name) >= 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    if any(character in name for character in '<>"\\'):
        raise ValueError("must be an address, or a name and an address: Ann Example <ann@example.com>")
    return Mailbox(name=name, address=parse_address(address))
