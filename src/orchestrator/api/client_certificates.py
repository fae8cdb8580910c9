"""Which clients may call, by the names in the certificates that their connections were made with (mTLS).

That a certificate is one of the authority's and has not expired, the handshake has seen to; which of those are meant is
said here. What counts are DNS names and URIs, SPIFFE ids among them, of the subject alternative names: the common
name says nothing.
"""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request

from orchestrator.api.grpc_wire import Context
from orchestrator.domain.refusals import PermissionDenied

#: Where a connection over HTTP keeps them, in the `state` of its requests.
CLIENT_NAMES = "client_names"

#: Of as many is told to a client which ones it came with.
_TOLD = 5

#: What gRPC calls the names of each kind.
_GRPC_KINDS = {"peer_dns": "DNS", "peer_uri": "URI"}


class AllowedClients:
    """Those with one of these names; everybody that the handshake let in, where there are none."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(map(canonical, names))

    def require(self, shown: Callable[[], Iterable[str]]) -> None:
        """`shown` tells the names of the client; it is asked if that matters. Raises PermissionDenied
        CLIENT_NOT_ALLOWED.
        """
        if self._names and self._names.isdisjoint(names := shown()):
            told = ", ".join(sorted(names)[:_TOLD]) or "none"
            raise PermissionDenied(
                "CLIENT_NOT_ALLOWED",
                f"no name in this client's certificate is one of those that may call: it has {told}",
                clientNames=told,
            )


def canonical(name: str) -> str:
    """URIs as they are; of DNS names, case says nothing."""
    return name if "://" in name else name.lower()


def names_of_connection(transport: BaseTransport) -> frozenset[str]:
    """The names in the certificate that a connection over HTTP was made with; none without one."""
    tls = transport.get_extra_info("ssl_object")
    certificate: Mapping[str, Any] = (tls.getpeercert() if tls is not None else None) or {}
    return _names((kind, name) for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI"))


def names_of_request(request: Request) -> frozenset[str]:
    """The same, of a request that came by it (http_connections.py)."""
    names: frozenset[str] = request.scope.get("state", {}).get(CLIENT_NAMES, frozenset())
    return names


def names_of_call(context: Context) -> frozenset[str]:
    """The names in the certificate of whoever makes a call over gRPC."""
    shown = context.auth_context()
    return _names(
        (kind, name.decode(errors="replace")) for key, kind in _GRPC_KINDS.items() for name in shown.get(key, ())
    )


def _names(found: Iterable[tuple[str, str]]) -> frozenset[str]:
    # What has the form of the other kind is neither: a certificate may have been made out for anything.
    return frozenset(canonical(name) for kind, name in found if ("://" in name) == (kind == "URI"))
