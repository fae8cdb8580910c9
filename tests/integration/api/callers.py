"""The same call over gRPC and over HTTP, with one way to tell how it ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import httpx
from google.api.annotations_pb2 import http
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from orchestrator.api.json_codec import WHOLE_REQUEST
from orchestrator.api.json_decode import decode_into
from orchestrator.api.json_encode import encode
from orchestrator.api.methods import services
from orchestrator.api.request_shapes import url_of

RPCS: Mapping[str, MethodDescriptor] = {method.name: method for service in services() for method in service.methods}

_VARIABLE = re.compile(r"\{([a-z_.]+)\}")
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(slots=True)
class Refused(Exception):
    """How a call failed, as its caller sees it. `violations` are (path, reason)."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[tuple[str, str]] = field(default_factory=list)
    resource: tuple[str, str] | None = None
    retry_after: timedelta | None = None
    request_id: str = ""
    size: int = 0
    http_status: int | None = None


class Caller(Protocol):
    """Calls RPCs by their names. `key` None: without one."""

    transport: str

    async def call(
        self, request: Message, *, key: str | None = ..., timeout: float | None = ..., call_id: str | None = ...
    ) -> Any:
        """The response. Raises Refused."""
        ...


def rpc_of(request: Message) -> MethodDescriptor:
    return RPCS[request.DESCRIPTOR.name.removesuffix("Request")]


class GrpcCaller:
    transport = "grpc"

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.channel = channel
        self._key = key

    async def call(
        self,
        request: Message,
        *,
        key: str | None = "default",
        timeout: float | None = None,
        call_id: str | None = None,
    ) -> Any:
        rpc = rpc_of(request)
        response = await self.raw(rpc, request.SerializeToString(), key=key, timeout=timeout, call_id=call_id)
        return GetMessageClass(rpc.output_type).FromString(response)

    async def raw(
        self,
        rpc: MethodDescriptor,
        message: bytes,
        *,
        key: str | None = "default",
        timeout: float | None = None,
        call_id: str | None = None,
    ) -> bytes:
        """Send these bytes as they are."""
        metadata = []
        if key is not None:
            metadata.append(("authorization", f"Bearer {self._key if key == 'default' else key}"))
        if call_id is not None:
            metadata.append(("x-request-id", call_id))
        call = self.bytes_call(f"/{rpc.containing_service.full_name}/{rpc.name}")
        try:
            response: bytes = await call(message, metadata=tuple(metadata), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise refused(error) from None
        return response

    def bytes_call(self, path: str) -> Any:
        """Calls what is behind a path with bytes, and gives bytes back."""
        return self.channel.unary_unary(path)


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """What the trailers of a failed call say."""
    status = rpc_status.from_call(error)
    if status is None:
        return Refused(error.code().name, "", error.details() or "")
    return _from_status(status)


class HttpCaller:
    transport = "http"

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self.client = client
        self._key = key

    async def call(
        self,
        request: Message,
        *,
        key: str | None = "default",
        timeout: float | None = None,
        call_id: str | None = None,
    ) -> Any:
        rpc = rpc_of(request)
        rule = rpc.GetOptions().Extensions[http]
        headers = {}
        if key is not None:
            # No header ends with a blank: without a key, the scheme alone.
            headers["Authorization"] = f"Bearer {self._key if key == 'default' else key}".rstrip()
        if timeout is not None:
            headers["X-Timeout-Ms"] = str(int(timeout * 1000))
        if call_id is not None:
            headers["X-Request-Id"] = call_id
        document: dict[str, Any] = encode(request)
        variables = {name: _taken(document, name) for name in _VARIABLE.findall(url_of(rule))}
        url = _VARIABLE.sub(lambda variable: quote(variables[variable[1]], safe=""), url_of(rule))
        body: dict[str, Any] | None = document
        query: dict[str, Any] = {}
        if rule.body != WHOLE_REQUEST:
            body, query = document.pop(_camel(rule.body), {}) if rule.body else None, document
        answer = await self.client.request(
            str(rule.WhichOneof("pattern")).upper(),
            url,
            headers=headers,
            params={name: _text(value) for name, value in query.items()},
            json=body,
        )
        if answer.status_code != 200:
            raise refused_by(answer)
        response = GetMessageClass(rpc.output_type)()
        holder = getattr(response, rule.response_body) if rule.response_body else response
        holder.SetInParent()
        decode_into(holder, answer.json(), "", [])
        return response


def refused_by(answer: httpx.Response) -> Refused:
    """What the body of a failed answer says."""
    error = answer.json()["error"]
    status = Status(code=getattr(grpc.StatusCode, error["status"]).value[0], message=error["message"])
    for detail in error["details"]:
        ParseDict(detail, status.details.add())
    failure = _from_status(status)
    failure.http_status = answer.status_code
    assert error["code"] == answer.status_code
    return failure


def _from_status(status: Status) -> Refused:
    failure = Refused(_CODES[status.code], "", status.message, size=status.ByteSize())
    assert len({detail.type_url for detail in status.details}) == len(status.details), "a type of detail comes twice"
    for detail in status.details:
        _take(detail, failure)
    return failure


def _take(detail: AnyMessage, failure: Refused) -> None:
    for kind in (
        details.ErrorInfo,
        details.BadRequest,
        details.PreconditionFailure,
        details.ResourceInfo,
        details.RetryInfo,
        details.RequestInfo,
    ):
        message = kind()
        if not detail.Unpack(message):
            continue
        match message:
            case details.ErrorInfo():
                assert message.domain == "orchestrator"
                failure.reason, failure.metadata = message.reason, dict(message.metadata)
            case details.BadRequest():
                failure.violations = [(v.field, v.reason) for v in message.field_violations]
            case details.PreconditionFailure():
                failure.violations = [(v.subject, v.type) for v in message.violations]
            case details.ResourceInfo():
                failure.resource = (message.resource_type, message.resource_name)
            case details.RetryInfo():
                failure.retry_after = message.retry_delay.ToTimedelta()
            case details.RequestInfo():
                failure.request_id = message.request_id


def _taken(document: dict[str, Any], name: str) -> str:
    """The value of a URL's variable, which the body does not repeat."""
    *way, last = (_camel(part) for part in name.split("."))
    for step in way:
        document = document.setdefault(step, {})
    return str(document.pop(last, ""))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
