from __future__ import annotations

from orchestrator.cli.kinds import AUDIENCE
from orchestrator.cli.resources import noun

app = noun(AUDIENCE)
