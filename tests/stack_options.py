"""What stacks of tests have in common: ports that nobody else has, two workers, and no metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.stack import StackOptions


def stack_options(data_dir: Path, **more: Any) -> StackOptions:
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
    )
    return replace(options, **more)
