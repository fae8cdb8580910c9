"""numpy and scipy take long to import: who does not learn does without."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("orchestrator.cli, orchestrator.server", ("numpy", "scipy")),
        ("workers.main, workers.process, workers.workflows.policy_updates", ("numpy", "scipy")),
        ("orchestrator.domain.arms, orchestrator.application.choosing", ("numpy", "scipy")),
        (
            "orchestrator.learning.policy, orchestrator.learning.context_policy, orchestrator.learning.performance, "
            "orchestrator.learning.impact, orchestrator.learning.planning, orchestrator.learning.off_policy",
            ("scipy",),
        ),
        ("orchestrator.learning.lift, orchestrator.learning.planning", ("numpy", "scipy")),
    ],
)
def test_what_starts_often_does_not_import_them(modules: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, {modules}\nprint(*[name for name in {absent} if name in sys.modules])"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == []
