"""Who may decode: tokens with names, and the sessions of browsers that have shown one."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

#: How long a browser need not show its token again.
SESSION = timedelta(hours=12)
COOKIE = "codec_session"


class CodecTokens:
    """`name:token` each, as settings have them. A session ends with its token."""

    def __init__(self, entries: Iterable[str], *, clock: Callable[[], float] = time.time) -> None:
        self._tokens = dict(entry.split(":", 1) for entry in entries)
        self._clock = clock

    def whose(self, token: str) -> str | None:
        """The name of a token; None: it is none of ours."""
        found = None
        # All are compared, whichever it is: how long that takes says nothing.
        for name, known in self._tokens.items():
            if hmac.compare_digest(known.encode(), token.encode(errors="surrogateescape")):
                found = name
        return found

    def session_of(self, name: str) -> str:
        """What a browser is given instead of the token of this name."""
        until = round(self._clock() + SESSION.total_seconds())
        return f"{name}.{until}.{self._signed(name, until)}"

    def of_session(self, session: str) -> str | None:
        """The name of who was given it; None: nobody, or too long ago."""
        name, _, rest = session.partition(".")
        until, _, signed = rest.partition(".")
        if name not in self._tokens or not (until.isascii() and until.isdecimal()) or len(until) > 12:
            return None
        if not hmac.compare_digest(self._signed(name, int(until)).encode(), signed.encode(errors="surrogateescape")):
            return None
        return name if self._clock() < int(until) else None

    def _signed(self, name: str, until: int) -> str:
        return hmac.digest(self._tokens[name].encode(), f"session {name} {until}".encode(), "sha256").hex()
