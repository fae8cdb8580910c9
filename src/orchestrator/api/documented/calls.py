"""From a documented request to the pipeline and back, by the rows of the table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import json_codec
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.descriptors import fields_of
from orchestrator.api.documented.error_form import ErrorForm
from orchestrator.api.documented.members import meaning_of
from orchestrator.api.documented.row import Given, Row, place_in
from orchestrator.api.documented.rows import ROWS
from orchestrator.api.errors import Failure
from orchestrator.api.fault_relations import unrelated
from orchestrator.api.http_answers import JSON, etag_header, failed, headers_of, no_such_path, wrong_verb
from orchestrator.api.http_arrivals import HttpArrivals, query_of, raw_path
from orchestrator.api.json_text import write_json
from orchestrator.api.methods import Method, open_to
from orchestrator.api.page_tokens import MAX_PAGE_SIZE
from orchestrator.api.routes import Binding, Match, Routes, WrongVerb
from orchestrator.domain.refusals import InvalidArgument
from orchestrator.domain.scope import Role
from orchestrator.predicates.faults import Fault, Wrong

#: Where the documents' paths begin; and one that has nothing below it.
MOUNTS = ("/api", "/admin")
PATHS = ("/audiences",)
#: Where those do that are internal.
INTERNAL_MOUNT = "/api"

_PROJECT = "project_id"


class DocumentedCalls:
    """Everything at the documented paths."""

    def __init__(self, arrivals: HttpArrivals, methods: Mapping[str, Method], rows: Iterable[Row] = ROWS) -> None:
        self._arrivals = arrivals
        self._rows = {(row.verb, row.path): row for row in rows}
        self._routes = Routes(_binding(row, methods[f"orchestrator.v1.{row.rpc}"]) for row in self._rows.values())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        call_id = call_id_of(request.headers)
        verb = "GET" if request.method == "HEAD" else request.method
        found = self._routes.find(verb, raw_path(request))
        match found:
            case Match(binding=binding):
                return await _Asked(
                    self._arrivals, request, found, self._rows[verb, binding.template], call_id
                ).answer()
            case WrongVerb(allowed=allowed):
                return wrong_verb(request.method, allowed, call_id, _form_at(request).tell)
            case None:
                return no_such_path(call_id, _form_at(request).tell)


def _form_at(request: Request) -> ErrorForm:
    """Where no document has a call: as the calls beside it spell errors."""
    return ErrorForm(in_capitals=not raw_path(request).startswith("/api/"))


def _binding(row: Row, method: Method) -> Binding:
    body = method.http[0].body
    if row.internal:
        [method] = open_to({method.name: method}, {Role.INTERNAL}).values()
    return Binding(method=method, verb=row.verb, template=row.path, body=body, response_body="")


class _Asked:
    """One request, on its way through the pipeline and back."""

    def __init__(self, arrivals: HttpArrivals, request: Request, match: Match, row: Row, call_id: str) -> None:
        self._arrivals = arrivals
        self._http = request
        self._binding = match.binding
        self._path = dict(match.path_fields)
        self._project_id = self._path.pop(_PROJECT, None)
        self._row = row
        self._call_id = call_id
        self._places: Mapping[str, str] = {}
        self._request: Any = None

    async def answer(self) -> Response:
        began = time.monotonic()
        served = await self._arrivals.serve(
            self._http, self._binding, self._call_id, self._make, project_id=self._project_id
        )
        answer = await self._whole_of(served.answer, began)
        if isinstance(answer, Failure):
            response = self._failed(answer)
            if served.unread:
                # Nobody waits for the rest of a body that may have no end.
                response.headers["Connection"] = "close"
            return response
        headers = headers_of(self._call_id)
        if self._row.status == 204:
            return Response(status_code=204, headers=headers)
        document = self._row.answer.write(answer, self._request)
        if isinstance(document, dict):
            headers |= etag_header(document)
        return Response(write_json(document), status_code=self._row.status, headers=headers, media_type=JSON)

    def _make(self, body: bytes) -> tuple[Message, list[Fault]]:
        kind = self._binding.method.request
        try:
            document = json_codec.read_object(body)
        except Wrong as wrong:
            raise InvalidArgument([wrong.fault]) from None  # Nothing else can be said of what is no request.
        meant = meaning_of(self._row, Given(document=document, query=query_of(self._http)))
        self._places = meant.places
        message, faults = json_codec.request_of(
            kind, body_field=self._binding.body, document=meant.document, path=self._path, query=meant.query
        )
        if self._row.whole:
            fields_of(message).page_size = MAX_PAGE_SIZE
        self._request = message
        return message, meant.faults + unrelated(meant.faults, faults)

    async def _whole_of(self, answer: bytes | Failure, began: float) -> Message | Failure:
        """The answer; where its document knows no pages, with all that follow, in the time that one call has."""
        if isinstance(answer, Failure):
            return answer
        whole: Any = self._binding.method.response.FromString(answer)
        token = whole.next_page_token if self._row.whole else ""
        while token:
            request: Any = self._binding.method.request()
            request.CopyFrom(self._request)
            request.page_token = token
            served = await self._arrivals.serve(
                self._http,
                self._binding,
                self._call_id,
                partial(_again, request),
                project_id=self._project_id,
                began=began,
            )
            if isinstance(served.answer, Failure):
                return served.answer
            page: Any = self._binding.method.response.FromString(served.answer)
            token = page.next_page_token
            whole.MergeFrom(page)
        found: Message = whole
        return found

    def _failed(self, failure: Failure) -> Response:
        faults = tuple(replace(fault, path=place_in(self._places, fault.path)) for fault in failure.faults)
        tell = partial(self._row.errors.tell, store_failed=self._row.store_failed)
        return failed(replace(failure, faults=faults), self._call_id, tell)


def _again(request: Message, body: bytes) -> tuple[Message, list[Fault]]:
    return request, []
