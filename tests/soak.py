"""Whether counts are to be whole: `make soak` takes the time that `make test-faults` does not have."""

from __future__ import annotations

import os

import pytest

SOAK = os.environ.get("ORCHESTRATOR_SOAK") == "1"

#: Of tests for which `make test-faults` has no time at all.
in_soak_alone = pytest.mark.skipif(not SOAK, reason="takes minutes: make soak does it")
