from __future__ import annotations

from orchestrator.cli.kinds import TRIGGER_CONTRACT
from orchestrator.cli.resources import noun

app = noun(TRIGGER_CONTRACT)
