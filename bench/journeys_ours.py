"""A worker process of the product that also lets subjects in:
`python -m bench.journeys_ours DSN TEMPORAL [NAMESPACE [KEY …]]`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from bench.remote import obey, run
from bench.welcome import JOURNEY
from bench.working import working
from orchestrator import logs, otlp, traces
from orchestrator.application.enrollment import enroll
from orchestrator.application.relay import Relay
from orchestrator.application.transactions import Transactions
from orchestrator.application.versions import Versions
from orchestrator.domain.scope import Role, Scope
from orchestrator.storage.outbox import Notice
from orchestrator.storage.pool import API_ROLE, open_pool
from orchestrator.temporal.client import Target
from orchestrator.temporal.executions import Executions

#: Subjects of one call.
CALL = 100

#: The first project of an instance, which is made with it.
SCOPE = Scope(project_no=1, project_id="default", actor="key:bench", role=Role.ADMIN)


async def main(dsn: str, address: str, namespace: str = "", *payload_keys: str) -> None:
    """Traced, where the environment says so."""
    logs.configure("warning", "json")
    with otlp.recording(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None, "grpc", service="bench"):
        await _work(dsn, address, namespace, payload_keys)


async def _work(dsn: str, address: str, namespace: str, payload_keys: Sequence[str]) -> None:
    api = Transactions(await open_pool(dsn, role=API_ROLE, size=4, application_name="bench-api"))
    target = Target(address=address, namespace=namespace)
    async with working(dsn, target, payload_keys=payload_keys) as (client, pool):
        relay = Relay(Transactions(pool), Executions(client, eager=True, searchable=True))
        versions = Versions()

        async def let_in(subject_ids: list[str]) -> None:
            """As EnrollSubjects does: a transaction for each call, and what it decided is told after the commit."""
            telling: list[asyncio.Task[int]] = []
            for start in range(0, len(subject_ids), CALL):
                with traces.begun("EnrollSubjects", "server", None):
                    told = await _enroll(api, versions, subject_ids[start : start + CALL])
                    telling.append(asyncio.create_task(relay.tell(told)))
            await asyncio.gather(*telling)

        await obey({"let in": let_in})


async def _enroll(api: Transactions, versions: Versions, subject_ids: Sequence[str]) -> Sequence[Notice]:
    async with api.write(SCOPE.project_no) as conn:
        return (await enroll(conn, SCOPE, versions, JOURNEY, subject_ids)).told


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
