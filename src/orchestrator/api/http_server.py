"""The HTTP listener: the API under /v1, the documented calls, and what machines ask of a server."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Callable, Collection, Iterator
from functools import partial

import uvicorn
from grpc import StatusCode
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from orchestrator.api.auth import key_of
from orchestrator.api.call_ids import call_id_of
from orchestrator.api.documented.calls import INTERNAL_MOUNT, MOUNTS, PATHS, DocumentedCalls
from orchestrator.api.errors import Failure
from orchestrator.api.health import State
from orchestrator.api.http_answers import JSON, failed, no_such_path
from orchestrator.api.http_arrivals import IDEMPOTENCY_HEADER, TIMEOUT_HEADER
from orchestrator.api.http_calls import HttpCalls
from orchestrator.api.http_connections import Connection, Idle
from orchestrator.api.json_text import write_json
from orchestrator.api.tls import TlsFiles, http_context
from orchestrator.api.unsubscribe_page import UnsubscribePage
from orchestrator.domain.unsubscribe_link import PATH

_VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ASKED = ("Authorization", "X-Api-Key", IDEMPOTENCY_HEADER, "If-Match", "X-Request-Id", TIMEOUT_HEADER)
_TOLD = ("ETag", "X-Request-Id", "Retry-After", "WWW-Authenticate")


def application(
    calls: HttpCalls,
    documented: DocumentedCalls,
    *,
    allowed_origins: Collection[str],
    state: Callable[[], State],
    registry: CollectorRegistry,
    metrics_token: str | None,
    openapi: bytes,
    unsubscribe: UnsubscribePage,
) -> Starlette:
    """The ASGI application. What stands beside /v1 and the documented calls needs no key, but /metrics its token."""

    async def metrics(request: Request) -> Response:
        if metrics_token is not None:
            shown = key_of(request.headers).encode(errors="replace")
            if not hmac.compare_digest(shown, metrics_token.encode()):
                failure = Failure(
                    code=StatusCode.UNAUTHENTICATED,
                    reason="UNAUTHENTICATED",
                    message="the metrics token is required: Authorization: Bearer",
                )
                return failed(failure, call_id_of(request.headers))
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def contract(request: Request) -> Response:
        return Response(openapi, media_type=JSON)

    return _application(
        [
            Mount("/v1", app=calls),
            *(Mount(mount, app=documented) for mount in MOUNTS),
            *(Route(path, endpoint=documented) for path in PATHS),
            *_health(state),
            Route("/metrics", metrics),
            Route("/openapi.json", contract),
            Route(PATH + "/{token}", unsubscribe.__call__, methods=["GET", "POST"]),
        ],
        _cross_origin(allowed_origins),
    )


def internal_application(calls: HttpCalls, documented: DocumentedCalls, *, state: Callable[[], State]) -> Starlette:
    """The same for a listener that serves nothing but internal calls, and health."""
    return _application([Mount("/v1", app=calls), Mount(INTERNAL_MOUNT, app=documented), *_health(state)], [])


def _application(routes: list[BaseRoute], middleware: list[Middleware]) -> Starlette:
    handlers = {404: _nothing_there, 405: _wrong_verb}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _health(state: Callable[[], State]) -> tuple[Route, Route]:
    async def alive(request: Request) -> Response:
        return Response(write_json({"status": "alive"}), media_type=JSON)

    async def ready(request: Request) -> Response:
        now = state()
        status = ("degraded" if now.degraded else "ready") if now.ready else "not ready"
        return Response(write_json({"status": status}), status_code=200 if now.ready else 503, media_type=JSON)

    return Route("/healthz", alive), Route("/readyz", ready)


async def _nothing_there(request: Request, error: Exception) -> Response:
    return no_such_path(call_id_of(request.headers))


async def _wrong_verb(request: Request, error: Exception) -> Response:
    is_page = request.url.path.startswith(f"{PATH}/")
    failure = Failure(
        code=StatusCode.UNIMPLEMENTED,
        reason="METHOD_NOT_FOUND",
        message=f"only GET{' and POST are' if is_page else ' is'} possible here",
        http_status=405,
    )
    response = failed(failure, call_id_of(request.headers))
    response.headers["Allow"] = "GET, HEAD, POST" if is_page else "GET, HEAD"
    return response


def _cross_origin(origins: Collection[str]) -> list[Middleware]:
    """Lets browsers show our answers to pages of these origins, and of no others."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_credentials=True,
            allow_methods=_VERBS,
            allow_headers=_ASKED,
            expose_headers=_TOLD,
        )
    ]


def listening(host: str, port: int) -> socket.socket:
    """A socket that connections are taken from. Raises OSError.

    An answer goes out in two writes, and the second must not wait until the first is acknowledged, which takes the
    other side 40 ms. asyncio would see to that, but not where the protocol of the socket was left to the system.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server((host, port), family=family, backlog=512)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class HttpServer:
    """Serves an ASGI application in the running loop. `start` binds it, `stop` lets running requests end."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, tls: TlsFiles | None) -> int:
        """Listen; returns the port. Raises OSError when the address is taken or TLS files cannot be read."""
        config = uvicorn.Config(
            self._app,
            http=partial(Connection, Idle()),  # type: ignore[arg-type]  # makes what a class would
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            h11_max_incomplete_event_size=64 * 1024,
        )
        config.load()
        if tls is not None:
            config.ssl = http_context(tls)
        self._socket = listening(host, port)
        self._server = _Server(config)
        self._running = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http server")
        bound: int = self._socket.getsockname()[1]
        return bound

    async def stop(self, grace: float) -> None:
        """Refuse new connections at once, give requests under way `grace` seconds, cut the rest."""
        if self._server is None or self._running is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        await self._running


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs the process."""
        yield
