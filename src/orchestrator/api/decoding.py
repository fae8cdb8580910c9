"""The codec server's HTTP: Temporal's pages and its command line ask here what encrypted payloads say.

It decodes and never encodes: nobody writes into histories by hand. Who asks comes with a token, or with the cookie that
a page of ours has set for one; answers are shown to pages of one origin. Every decoding is a line of the log.
"""

from __future__ import annotations

import base64
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from urllib.parse import parse_qs

import orjson
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.api.common.v1 import Payload, Payloads

from orchestrator.api.client_certificates import AllowedClients, names_of_request
from orchestrator.api.codec_tokens import COOKIE, SESSION, CodecTokens
from orchestrator.api.http_answers import JSON
from orchestrator.domain.refusals import PermissionDenied
from orchestrator.temporal.codec import BINDING_FIELD, Altered, EncryptingCodec, KeyMissing, kid_of

logger = logging.getLogger(__name__)

#: Bytes of a body: a page of a history has less.
_LARGEST = 4 * 2**20
_LARGEST_FORM = 4 * 2**10

_HEALTH = "/healthz"

#: Whose binding it is, for the log.
_REMEMBERED = 10_000

_ASKED = ("Authorization", "Authorization-Extras", "Content-Type", "X-Namespace")
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class TooLarge(Exception):
    """A body has more bytes than it may have."""


class Decoding:
    """`origin` is that of Temporal's pages, None where only command lines ask. `secure`: cookies go over TLS alone."""

    def __init__(
        self, codec: EncryptingCodec, tokens: CodecTokens, clients: AllowedClients, *, origin: str | None, secure: bool
    ) -> None:
        self._codec = codec
        self._clients = clients
        self._tokens = tokens
        self._origin = origin
        self._secure = secure
        self._executions: OrderedDict[bytes, str] = OrderedDict()

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                *(Route(f"{under}/decode", self._decode, methods=["POST"]) for under in ("", "/{namespace}")),
                *(Route(f"{under}/encode", self._encode, methods=["POST"]) for under in ("", "/{namespace}")),
                Route("/", self._page),
                Route("/login", self._log_in, methods=["POST"]),
                Route(_HEALTH, self._alive),
            ],
            middleware=[
                Middleware(_AllowedOnly, self._clients),
                Middleware(
                    CORSMiddleware,
                    allow_origins=[self._origin] if self._origin else [],
                    allow_credentials=True,
                    allow_methods=["POST"],
                    allow_headers=_ASKED,
                ),
            ],
        )

    async def _decode(self, request: Request) -> Response:
        name = self._who(request)
        if name is None:
            return _refused(401, "UNAUTHENTICATED", "come with a token: Authorization: Bearer <token>, or log in at /")
        try:
            asked = Parse(await _body(request, _LARGEST), Payloads(), ignore_unknown_fields=True)
        except TooLarge:
            return _refused(413, "REQUEST_TOO_LARGE", f"a body may have {_LARGEST} bytes")
        except (ParseError, UnicodeDecodeError, RecursionError):
            return _refused(
                400, "INVALID_JSON", 'the body must be {"payloads": [{"metadata": {…}, "data": …}]}, in base64'
            )
        opened = [self._opened(payload) for payload in asked.payloads]
        self._note(name, asked.payloads, opened)
        answer = MessageToJson(Payloads(payloads=opened), indent=None)
        return Response(answer, headers={"Cache-Control": "no-store"}, media_type=JSON)

    def _opened(self, payload: Payload) -> Payload:
        try:
            return self._codec.opened(payload)
        except KeyMissing as missing:
            return _told(f"erased or unknown key: {missing.kid}")
        except Altered:
            return _told("not what was encrypted: altered, or the key of this id is another one")

    def _note(self, name: str, asked: Sequence[Payload], opened: Sequence[Payload]) -> None:
        """A line for each workflow whose payloads were decoded, and one for those that could not be."""
        decoded: Counter[bytes] = Counter()
        unknown: Counter[str] = Counter()
        for sealed, payload in zip(asked, opened, strict=True):
            kid = kid_of(sealed)
            if kid is None:
                continue
            if kid not in self._codec.keyring.kids:
                unknown[kid] += 1
                continue
            binding = sealed.metadata[BINDING_FIELD]
            decoded[binding] += 1
            if (execution_id := _execution_in(payload)) is not None:
                self._executions[binding] = execution_id
                self._executions.move_to_end(binding)
                if len(self._executions) > _REMEMBERED:
                    self._executions.popitem(last=False)
        for binding, count in decoded.items():
            fields = {"actor": name, "count": count, "binding": base64.b64encode(binding).decode()}
            if binding in self._executions:
                fields["execution_id"] = self._executions[binding]
            logger.info("payloads decoded", extra=fields)
        for kid, count in unknown.items():
            logger.warning("payloads of an unknown key", extra={"actor": name, "count": count, "kid": kid})

    def _who(self, request: Request) -> str | None:
        """The name of whoever asks; None: nobody that we know."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and (name := self._tokens.whose(token.strip())) is not None:
            return name
        # A cookie goes along with whatever a browser is made to send: it is taken from the pages alone.
        if self._origin is None or request.headers.get("origin") != self._origin:
            return None
        return self._tokens.of_session(request.cookies.get(COOKIE, ""))

    async def _encode(self, request: Request) -> Response:
        # Temporal's command line has nothing encoded where it has nothing to hand over.
        with suppress(TooLarge, ParseError, UnicodeDecodeError, RecursionError):
            if not Parse(await _body(request, _LARGEST_FORM), Payloads()).payloads:
                return Response(b"{}", media_type=JSON)
        return _refused(403, "DECODES_ONLY", "this server decodes, and encodes for nobody")

    async def _page(self, request: Request) -> Response:
        name = self._tokens.of_session(request.cookies.get(COOKIE, ""))
        if name is None:
            return _page(_FORM)
        return _page(f"<p>You are logged in as {escape(name)}.</p>{_NEXT}")

    async def _log_in(self, request: Request) -> Response:
        try:
            form = parse_qs((await _body(request, _LARGEST_FORM)).decode(errors="replace"))
        except TooLarge:
            return _page(_FORM, status=413)
        name = self._tokens.whose(form.get("token", [""])[0].strip())
        if name is None:
            logger.warning("a login with a wrong token")
            return _page(f'<p role="alert">That is no token of this server.</p>{_FORM}', status=401)
        logger.info("logged in", extra={"actor": name})
        response = RedirectResponse("/", status_code=303, headers=_PAGE_HEADERS)
        response.set_cookie(
            COOKIE,
            self._tokens.session_of(name),
            max_age=round(SESSION.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return response

    async def _alive(self, request: Request) -> Response:
        return Response(b'{"status": "alive"}', media_type=JSON)


class _AllowedOnly:
    """Turns away clients whose certificates have no name that may ask, from all but health."""

    def __init__(self, app: ASGIApp, clients: AllowedClients) -> None:
        self._app = app
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http" and scope["path"] != _HEALTH:
            try:
                self._clients.require(partial(names_of_request, Request(scope)))
            except PermissionDenied as refusal:
                answer = _refused(403, refusal.reason, refusal.message)
        await answer(scope, receive, send)


_FORM = (
    '<form method="post" action="/login"><label>Token <input type="password" name="token" autocomplete="off" required>'
    "</label> <button>Log in</button></form>"
)
_NEXT = (
    "<p>In Temporal's pages, set this server as the codec server's endpoint, with &ldquo;Include cross-origin "
    "credentials&rdquo;: they show what payloads say.</p>"
)


async def _body(request: Request, largest: int) -> bytes:
    """Raises TooLarge."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > largest:
            raise TooLarge
    return bytes(read)


def _execution_in(payload: Payload) -> str | None:
    """The execution that a payload is about, if it says so: inputs and questions do."""
    if not payload.data.startswith(b"{"):
        return None
    try:
        document = orjson.loads(payload.data)
    except orjson.JSONDecodeError:
        return None
    execution_id = document.get("execution_id")
    return execution_id if isinstance(execution_id, str) else None


def _told(sentence: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=orjson.dumps(sentence))


def _refused(status: int, code: str, message: str) -> Response:
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    content = orjson.dumps({"error": {"code": code, "message": message}})
    return Response(content, status_code=status, headers=headers, media_type=JSON)


def _page(content: str, *, status: int = 200) -> Response:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Codec server</title></head>'
        f"<body><main><h1>Codec server</h1>{content}</main></body></html>"
    )
    return Response(page, status_code=status, headers=_PAGE_HEADERS, media_type="text/html")
