"""Events to take in: purchases and looks of ten thousand subjects, a few fields each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

SUBJECTS = 10_000
NAMES = ("purchase", "look", "cart", "search")

#: Events of one call.
BATCH = 1_000


def event_id(series: str, number: int) -> str:
    return f"{series}-{number}"


def subject_id(number: int) -> str:
    # Some come often, most of them rarely.
    return f"shopper-{number * number % SUBJECTS if number % 4 else number % 100}"


def name(number: int) -> str:
    return NAMES[number % len(NAMES)]


def occurred_at(number: int) -> datetime:
    """In the last hours, to the microsecond."""
    return datetime.now(UTC) - timedelta(minutes=5, milliseconds=number * 37 % 10_000_000)


def properties(number: int) -> dict[str, Any]:
    return {"sku": f"sku-{number % 5_000}", "amount": number % 20_000 / 100, "currency": "EUR"}
