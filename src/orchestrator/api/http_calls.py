"""HTTP/JSON: from a request to the pipeline and back, for every RPC by its `google.api.http` rule."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import json_codec
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.descriptors import descriptor_of, fields_of
from orchestrator.api.errors import Failure
from orchestrator.api.http_answers import JSON, failed, headers_of, no_such_path, wrong_verb
from orchestrator.api.http_arrivals import HttpArrivals, query_of, raw_path
from orchestrator.api.routes import Binding, Match, Routes, WrongVerb
from orchestrator.predicates.faults import Fault


class HttpCalls:
    """Everything under /v1."""

    def __init__(self, arrivals: HttpArrivals, routes: Routes) -> None:
        self._arrivals = arrivals
        self._routes = routes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        call_id = call_id_of(request.headers)
        verb = "GET" if request.method == "HEAD" else request.method
        found = self._routes.find(verb, raw_path(request))
        match found:
            case Match():
                return await self._serve(request, found, call_id)
            case WrongVerb(allowed=allowed):
                return wrong_verb(request.method, allowed, call_id)
            case None:
                return no_such_path(call_id)

    async def _serve(self, request: Request, match: Match, call_id: str) -> Response:
        binding = match.binding

        def make(body: bytes) -> tuple[Message, list[Fault]]:
            return json_codec.read_request(
                binding.method.request,
                body_field=binding.body,
                body=body,
                path=match.path_fields,
                query=query_of(request),
            )

        served = await self._arrivals.serve(request, binding, call_id, make)
        if isinstance(served.answer, Failure):
            response = failed(served.answer, call_id)
            if served.unread:
                # Nobody waits for the rest of a body that may have no end.
                response.headers["Connection"] = "close"
            return response
        return await self._arrivals.made(partial(_succeeded, binding, call_id), served.answer)


def _succeeded(binding: Binding, call_id: str, answer: bytes) -> Response:
    message = binding.method.response.FromString(answer)
    headers = headers_of(call_id)
    shown: Message = getattr(message, binding.response_body) if binding.response_body else message
    if "etag" in descriptor_of(shown).fields_by_name and (etag := fields_of(shown).etag):
        headers["ETag"] = f'"{etag}"'
    body = json_codec.write_response(message, binding.response_body)
    return Response(body, headers=headers, media_type=JSON)
