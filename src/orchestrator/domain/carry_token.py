"""What confirms that somebody has seen what carrying executions over would do, and that it is still the same.

A token holds until when it is good and a digest of what was shown: the version that would be
published, and what becomes of which step. It is not kept anywhere, and grants nothing: whoever uses one may publish.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.domain.carrying import Order
from orchestrator.domain.refusals import FailedPrecondition, InvalidArgument

#: For how long a preview may be acted on.
LIFE = timedelta(minutes=30)

_FORM = struct.Struct(">BQ16s")
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """What a token stands for: the version that would be published, by its digest, and who goes over to it."""

    project_no: int
    journey_id: str
    version: int
    sha256: bytes
    order: Order

    def token(self, now: datetime) -> tuple[str, datetime]:
        """A token, and until when it is good."""
        expires_at = (now + LIFE).replace(microsecond=0)
        seconds = int(expires_at.timestamp())
        packed = _FORM.pack(_VERSION, seconds, self._digest(seconds))
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode(), expires_at

    def require(self, token: str, now: datetime) -> None:
        """Raises InvalidArgument CARRY_TOKEN_INVALID, and FailedPrecondition CARRY_TOKEN_STALE."""
        try:
            packed = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
            version, seconds, digest = _FORM.unpack(packed)
            if version != _VERSION:
                raise ValueError("a token of another kind")
            expires_at = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError, struct.error, binascii.Error):
            message = "not a token that previewCarry gave: look at what would be carried over first"
            raise InvalidArgument.of("token", "CARRY_TOKEN_INVALID", message) from None
        if not hmac.compare_digest(digest, self._digest(seconds)):
            raise self._stale("what would be published, or what becomes of which step, is not what was previewed")
        if now >= expires_at:
            raise self._stale(f"the preview was good until {expires_at.isoformat()}")

    def _stale(self, why: str) -> FailedPrecondition:
        return FailedPrecondition("CARRY_TOKEN_STALE", f"{why}: preview again", journeyId=self.journey_id)

    def _digest(self, seconds: int) -> bytes:
        parts = [
            seconds, self.project_no, self.journey_id, self.version, self.sha256.hex(), self.order.mode.value,
            sorted(self.order.mapping.items()),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()[:16]
