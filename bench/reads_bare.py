"""A bare grpc.aio server whose handlers do one read of Postgres each: `python -m bench.reads_bare DSN`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import grpc

from bench.remote import obey, run
from orchestrator.api.convert.journeys import journey_message
from orchestrator.api.convert.subjects import subject_message
from orchestrator.storage import journeys, subjects
from orchestrator.storage.pool import WORKER_ROLE, open_pool
from orchestrator.v1 import journey_service_pb2 as rpc
from orchestrator.v1 import subject_service_pb2 as subject_rpc

if TYPE_CHECKING:
    from asyncpg import Connection, Pool, Record


METHOD = "/orchestrator.v1.JourneyService/GetJourney"
GET_SUBJECT = "/orchestrator.v1.SubjectService/GetSubject"


class Bare(grpc.GenericRpcHandler):
    """Without keys, roles, limits, checks, deadlines, metrics, errors."""

    def __init__(self, pool: Pool[Record]) -> None:
        self._pool = pool
        self._handlers = {
            METHOD: grpc.unary_unary_rpc_method_handler(
                self.get_journey, rpc.GetJourneyRequest.FromString, rpc.GetJourneyResponse.SerializeToString
            ),
            GET_SUBJECT: grpc.unary_unary_rpc_method_handler(
                self.get_subject,
                subject_rpc.GetSubjectRequest.FromString,
                subject_rpc.GetSubjectResponse.SerializeToString,
            ),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    async def get_journey(self, request: rpc.GetJourneyRequest, context: Any) -> rpc.GetJourneyResponse:
        async with self._pool.acquire() as conn:
            journey = await journeys.find(cast("Connection[Record]", conn), 1, request.journey_id)
        assert journey is not None
        return rpc.GetJourneyResponse(journey=journey_message(journey))

    async def get_subject(self, request: subject_rpc.GetSubjectRequest, context: Any) -> subject_rpc.GetSubjectResponse:
        async with self._pool.acquire() as conn:
            found = await subjects.find(cast("Connection[Record]", conn), 1, request.subject_id)
        assert found is not None
        return subject_rpc.GetSubjectResponse(subject=subject_message(found[1]))


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
