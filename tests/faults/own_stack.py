"""Options of a stack that shares nothing with other tests: its Postgres, which keeps what it has acknowledged, and its
Temporal may be harmed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import StackOptions
from tests.faults.field import ENVIRONMENT


def own_stack(data_dir: Path, **more: Any) -> StackOptions:
    """`more`: as StackOptions has it."""
    grpc, http, temporal, temporal_ui = free_ports(4)
    options = StackOptions(
        data_dir=data_dir,
        grpc_port=grpc,
        http_port=http,
        temporal_port=temporal,
        temporal_ui_port=temporal_ui,
        metrics_port=None,
        workers=2,
        environment=ENVIRONMENT,
    )
    return replace(options, **more)
