"""A Temporal development server of one test, with settings of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.devstack import temporal as devstack_temporal
from orchestrator.devstack.ports import free_ports
from orchestrator.devstack.temporal_cli import ensure_temporal


@asynccontextmanager
async def temporal_with(directory: Path, monkeypatch: pytest.MonkeyPatch, **config: int) -> AsyncIterator[str]:
    """The address of one that has these entries in its dynamic configuration beside ours, as long as the block lasts.

    In names `__` stands for a dot.
    """
    dotted = {name.replace("__", "."): value for name, value in config.items()}
    monkeypatch.setattr(devstack_temporal, "DYNAMIC_CONFIG", {**devstack_temporal.DYNAMIC_CONFIG, **dotted})
    name = f"own-{uuid.uuid4().hex[:8]}"
    server = devstack_temporal.EmbeddedTemporal(
        await ensure_temporal(talk=lambda sentence: None),
        database=directory / f"{name}.db",
        log=directory / f"{name}.log",
        port=free_ports(1)[0],
        ui_port=None,
    )
    process = await server.start()
    try:
        yield server.address
    finally:
        await process.stop(grace=1)
