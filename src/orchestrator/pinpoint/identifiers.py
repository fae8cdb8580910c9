"""What things are called here: Pinpoint's own ids, as far as they can be ids."""

from __future__ import annotations

import hashlib
import re

from orchestrator.domain.ids import ID, MAX_ID_LENGTH

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.:-]")
_DIGEST_LENGTH = 8


def as_id(text: str) -> str:
    """The text, if it can be an id; else what can stand of it, and a digest that keeps it apart from others.

    It depends on nothing but the text: whoever translates one file at a time gets the same ids.
    """
    if ID.fullmatch(text) and text not in (".", ".."):
        return text
    return distinct(_FORBIDDEN.sub("-", text[:MAX_ID_LENGTH]), text)


def distinct(stem: str, whole: str) -> str:
    """An id that begins with `stem`, one for each `whole`."""
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{stem[: MAX_ID_LENGTH - _DIGEST_LENGTH - 1]}-{digest}"
