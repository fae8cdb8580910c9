from __future__ import annotations

from orchestrator.cli.kinds import COMMUNICATION
from orchestrator.cli.resources import noun

app = noun(COMMUNICATION)
