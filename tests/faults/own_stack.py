"""Options of a stack that shares nothing with other tests: its Postgres, which keeps what it has acknowledged, and its
Temporal may be harmed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.devstack.stack import StackOptions
from tests.faults.field import ENVIRONMENT
from tests.stack_options import stack_options


def own_stack(data_dir: Path, **more: Any) -> StackOptions:
    """`more`: as StackOptions has it."""
    return stack_options(data_dir, **{"environment": ENVIRONMENT, **more})
