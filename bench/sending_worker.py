"""A worker process with so many places at providers:
`python -m bench.sending_worker DSN TEMPORAL PLACES`."""

from __future__ import annotations

import base64
import sys

from bench.remote import obey, run
from orchestrator import logs
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.temporal.client import Target, connect, runtime
from workers.channels.registry import open_channels
from workers.channels.rendering import Renderer
from workers.process import Limits, Parts, running
from workers.step_calls import StepCalls

#: What the server has to be told as well, so that it takes the addresses of a provider on this machine.
NETWORK = "127.0.0.0/8"
SECRET = "whsec_" + base64.b64encode(b"b" * 32).decode()


async def main(dsn: str, address: str, places: str) -> None:
    logs.configure("warning", "json")
    native = runtime(None)
    client = await connect(Target(address=address), runtime=native)
    pool = await open_pool(dsn, role=WORKER_ROLE, size=16, application_name="orchestrator-worker")
    channels = open_channels(pool=pool, webhook_secrets=[SECRET], allow_private=[NETWORK], plain_http=True)
    async with channels as opened, StepCalls() as calls, Renderer() as renderer:
        parts = Parts(
            dsn=dsn,
            pool=pool,
            client=client,
            channels=opened,
            calls=calls,
            renderer=renderer,
            meter=native.metric_meter,
            searchable=True,
            # Nobody else is called, so that nobody has to give way.
            limits=Limits(sends_per_channel=int(places), spare=0),
        )
        async with running(parts):
            await obey({})
    await pool.close()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
