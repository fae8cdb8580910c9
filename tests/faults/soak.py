"""Whether counts are to be whole: `make soak` takes the time that `make test-faults` does not have."""

from __future__ import annotations

import os

SOAK = os.environ.get("ORCHESTRATOR_SOAK") == "1"
