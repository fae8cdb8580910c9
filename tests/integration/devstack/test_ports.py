from __future__ import annotations

import asyncio
import socket

import pytest

from orchestrator.devstack.failure import StackFailure
from orchestrator.devstack.ports import free_ports, require_free


async def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    await require_free({f"--{port}": port for port in ports})


async def test_a_taken_port_is_named_with_the_flag_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackFailure, match=f"Port {port} is taken by another program: .* with --http-port"):
            await require_free({"--grpc-port": free_ports(1)[0], "--http-port": port})


async def test_a_port_that_is_free_in_a_moment_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asyncio.get_running_loop().call_later(0.3, server.close)
        await require_free({"--grpc-port": server.getsockname()[1]})


async def test_two_flags_with_one_port_are_refused() -> None:
    with pytest.raises(StackFailure, match="--grpc-port, --http-port name the same port"):
        await require_free({"--grpc-port": 50051, "--http-port": 50051})
