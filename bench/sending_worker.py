"""A worker process with so many places at providers:
`python -m bench.sending_worker DSN TEMPORAL PLACES`."""

from __future__ import annotations

import base64
import sys

from bench.remote import obey, run
from bench.working import working
from orchestrator import logs
from orchestrator.temporal.client import Target
from workers.process import Limits

#: What the server has to be told as well, so that it takes the addresses of a provider on this machine.
NETWORK = "127.0.0.0/8"
SECRET = "whsec_" + base64.b64encode(b"b" * 32).decode()


async def main(dsn: str, address: str, places: str) -> None:
    logs.configure("warning", "json")
    # Nobody else is called, so that nobody has to give way.
    limits = Limits(sends_per_channel=int(places), spare=0)
    there = Target(address=address)
    async with working(dsn, there, limits=limits, webhook_secrets=[SECRET], allow_private=[NETWORK], plain_http=True):
        await obey({})


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
