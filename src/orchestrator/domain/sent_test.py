"""A communication that is sent to given addresses, so that somebody sees it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain import channels
from orchestrator.domain.channels import Rules, url_faults
from orchestrator.domain.email_address import parse_address
from orchestrator.predicates.faults import Fault, under

MAX_ADDRESSES = 10
MAX_ADDRESS_LENGTH = channels.MAX_URL_LENGTH

#: Addresses of a project within an hour.
PER_HOUR = 100

#: What has not gone out by then does not go out: somebody has long given up looking for it.
IN_TIME = timedelta(hours=1)

KEPT_FOR = timedelta(days=7)

#: Before the subject line, so that nobody takes it for what it shows.
MARK = "[Test] "

#: Where a test stands at one address. From when it is handed over until there is an answer it is UNKNOWN.
WAITING, SENT, FAILED, UNKNOWN = "waiting", "sent", "failed", "unknown"
UNDER_WAY, EXPIRED = "under_way", "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a test at one address. `reason` is a small enum, never the provider's words."""

    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTest:
    """`communication_id` "" and `content_revision` 0: content that was given. `ended_at` None: it is on its way."""

    test_send_id: str
    communication_id: str
    content_revision: int
    channel: str
    category: str
    results: Sequence[Result]
    requested_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestMessage:
    """What is sent, rendered, and to whom. `subject_id` "": with given attributes."""

    # It is none of pytest's.
    __test__ = False

    subject_id: str
    subject: str
    body: str
    settings: dict[str, Any]
    addresses: Sequence[str]


def address_faults(addresses: Sequence[str], channel: str | None, path: str, rules: Rules) -> list[Fault]:
    """What is wrong with the addresses; `channel` None: it is not known."""
    if not addresses:
        return [Fault(path=path, reason="REQUIRED", message="at least one address is needed")]
    if len(addresses) > MAX_ADDRESSES:
        return [Fault(path=path, reason="TOO_LARGE", message=f"has at most {MAX_ADDRESSES} elements")]
    faults: list[Fault] = []
    for place, address in enumerate(addresses):
        at = under(path, place)
        if not address.strip():
            faults.append(Fault(path=at, reason="REQUIRED", message="must be given"))
        elif address in addresses[:place]:
            faults.append(Fault(path=at, reason="INVALID_VALUE", message="this address is given twice"))
        elif channel == channels.WEBHOOK:
            faults += url_faults(address, at, rules)
        elif channel == channels.EMAIL:
            try:
                parse_address(address)
            except ValueError as error:
                faults.append(Fault(path=at, reason="INVALID_VALUE", message=str(error)))
    return faults
