"""A bare grpc.aio server with one handler and one read of Postgres: `python -m bench.reads_bare DSN`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import grpc

from bench.remote import obey, run
from orchestrator.api.convert.journeys import journey_message
from orchestrator.storage import journeys
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.v1 import journey_service_pb2 as rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


METHOD = "/orchestrator.v1.JourneyService/GetJourney"


class Bare(grpc.GenericRpcHandler):
    """Without keys, roles, limits, checks, deadlines, metrics, errors."""

    def __init__(self, pool: Pool[Record]) -> None:
        self._pool = pool
        self._handler = grpc.unary_unary_rpc_method_handler(
            self.get_journey, rpc.GetJourneyRequest.FromString, rpc.GetJourneyResponse.SerializeToString
        )

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler if handler_call_details.method == METHOD else None

    async def get_journey(self, request: rpc.GetJourneyRequest, context: Any) -> rpc.GetJourneyResponse:
        async with self._pool.acquire() as conn:
            journey = await journeys.find(cast("Connection[Record]", conn), 1, request.journey_id)
        assert journey is not None
        return rpc.GetJourneyResponse(journey=journey_message(journey))


async def main(dsn: str) -> None:
    pool = await open_pool(dsn, role=WORKER_ROLE, size=16, application_name="bench-bare")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Bare(pool),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def tell_port(_: object) -> int:
        return port

    await obey({"port": tell_port})
    await server.stop(1)
    await pool.close()


if __name__ == "__main__":
    run(main(sys.argv[1]))
