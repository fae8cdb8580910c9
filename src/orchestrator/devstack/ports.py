from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import socket
from collections.abc import Mapping

from orchestrator.devstack.failure import StackFailure

LOOPBACK = "127.0.0.1"
#: What a killed run held is free again as soon as its processes are gone.
_PATIENCE = 2.0
#: Below those that Linux gives to outgoing connections, one of which might take a port before its server does.
_CHOICES = range(15_000, 32_768)


async def require_free(ports: Mapping[str, int], hosts: Mapping[str, str] | None = None) -> None:
    """Raises StackFailure unless every port can be listened on; the keys are the flags that choose them.

    `hosts` has, by flag, where to listen, if that is not the loopback address.
    """
    hosts = hosts or {}
    doubled = {port for port in ports.values() if list(ports.values()).count(port) > 1}
    if doubled:
        flags = ", ".join(flag for flag, port in ports.items() if port in doubled)
        raise StackFailure(f"{flags} name the same port: give each one of its own.")
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    for flag, port in ports.items():
        host = hosts.get(flag, LOOPBACK)
        while (obstacle := _obstacle(host, port)) is not None:
            if obstacle.errno != errno.EADDRINUSE:
                # Resolvers have numbers below zero, and words of their own.
                why = os.strerror(obstacle.errno) if obstacle.errno and obstacle.errno > 0 else obstacle.strerror
                raise StackFailure(
                    f"Nothing can listen on {place(host, port)} ({str(why).lower()}): "
                    f"choose another port with {flag}, or an address of this machine."
                )
            if asyncio.get_running_loop().time() > deadline:
                raise StackFailure(f"Port {port} is taken by another program: stop it, or choose another with {flag}.")
            await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all different. Two who look at the same time hardly ever find the same."""
    sockets: list[socket.socket] = []
    # Not the generator that tests seed alike in every process.
    drawn = iter(random.SystemRandom().sample(_CHOICES, len(_CHOICES)))
    try:
        while len(sockets) < count:
            with contextlib.suppress(OSError):
                sockets.append(socket.create_server((LOOPBACK, next(drawn))))
        return [sock.getsockname()[1] for sock in sockets]
    except StopIteration:
        raise StackFailure(f"There are no {count} free ports from {_CHOICES[0]} to {_CHOICES[-1]}.") from None
    finally:
        for sock in sockets:
            sock.close()


def place(host: str, port: int) -> str:
    """host:port, as addresses are written."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """By which address this machine reaches what listens on `host`."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)


def _obstacle(host: str, port: int) -> OSError | None:
    try:
        # As servers bind: connections that linger in TIME_WAIT are no obstacle.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error
    return None
