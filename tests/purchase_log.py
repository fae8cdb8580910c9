"""A real purchase log, which is not a part of this repository: CONTRIBUTING.md says where to get it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data" / "cdnow.txt.gz"
#: As ORCHESTRATOR_PURCHASE_LOG says; else beside the repository, if it is there.
LOG = Path(os.environ.get("ORCHESTRATOR_PURCHASE_LOG") or _BESIDE)

needs_purchase_log = pytest.mark.skipif(
    not LOG.exists(), reason=f"the purchase log is not at {LOG}: CONTRIBUTING.md says where to get it"
)


def lines() -> Iterator[tuple[str, datetime, float]]:
    """Customer, day and US dollars of each purchase, in the order of the file."""
    with gzip.open(LOG, "rt") as file:
        for line in file:
            customer, day, _, amount = line.split()
            yield customer, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC), float(amount)
