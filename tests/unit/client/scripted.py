"""A server whose answers are written down beforehand, and which remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from orchestrator.client import messages

#: In place of an answer: one that comes too late for anybody.
NEVER = "never"


@dataclass(slots=True)
class Asked:
    """A call as it arrived."""

    method: str
    request: bytes
    metadata: dict[str, Any]
    time_left: float


@dataclass(slots=True)
class Scripted(grpc.GenericRpcHandler):
    """Gives one answer after the other, the last one for ever."""

    answers: Sequence[Message | grpc.StatusCode | Status | str] = ()
    asked: list[Asked] = field(default_factory=list)
    target: str = ""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method

        async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            metadata = dict(context.invocation_metadata() or ())
            self.asked.append(Asked(method, request, metadata, context.time_remaining()))
            match self.answers[min(len(self.asked), len(self.answers)) - 1]:
                case grpc.StatusCode() as code:
                    await context.abort(code, "as it is written")
                case Status() as status:
                    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
                    trailer = ("grpc-status-details-bin", status.SerializeToString())
                    await context.abort(code, status.message, (trailer,))
                case Message() as message:
                    return message.SerializeToString()
            await asyncio.Event().wait()
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def scripted(
    *answers: Message | grpc.StatusCode | Status | str,
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
) -> AsyncIterator[Scripted]:
    """Serves for as long as the block lasts; without a `port`, on a free one."""
    script = Scripted(answers or (messages.PauseJourneyResponse(),))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((script,))
    place = f"127.0.0.1:{port}"
    port = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    script.target = f"127.0.0.1:{port}"
    await server.start()
    yield script
    await server.stop(None)
