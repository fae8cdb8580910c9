"""Where webhooks may go. An editor writes the URL, so it must not reach what only this machine can reach.

The name is resolved once, every address it has is judged, and the connection goes to an address that was judged: there
is no second look-up that could answer otherwise. Host header, SNI and certificate stay those of the name.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The addresses of a name, as text. Raises OSError when there are none.
Resolver = Callable[[str], Awaitable[Sequence[str]]]

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
# What browsers and the C library read as a number: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")

_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
# Global in the eyes of `ipaddress` (or in those of some of its releases), and not to be sent to: relays and tunnels,
# whose addresses contain others, addresses for documentation, and 192.0.0.0/24 of protocol assignments.
_NEVER = tuple(
    ip_network(text)
    for text in ("192.88.99.0/24", "192.0.0.0/24", "2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20")
)


class Forbidden(Exception):
    """This destination is not to be contacted. `reason`: `url_forbidden` (its form) or `address_forbidden`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreached(Exception):
    """No answer came. `reason` is one of few lower_snake words; `in_doubt`: what was sent may have been taken."""

    def __init__(self, reason: str, *, in_doubt: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.in_doubt = in_doubt


@contextmanager
def unanswered_by_name() -> Iterator[None]:
    """Raises Unreached for what connections raise to whom no answer comes."""
    try:
        yield
    except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
        raise Unreached("unreachable", in_doubt=False) from error
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise Unreached("timeout", in_doubt=True) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        raise Unreached("connection_lost", in_doubt=True) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """The rules. By default: https, the usual ports, public addresses.

    `trusted`: networks that may be reached although they are not public, on any port. `plain_http`: `http` URLs too.
    """

    ports: frozenset[int] = frozenset({443, 8443})
    plain_http: bool = False
    trusted: tuple[Network, ...] = ()

    def check_url(self, url: str) -> None:
        """Raises Forbidden when the form of the URL is not ours. Its address is judged when it is connected to."""
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise Forbidden("url_forbidden")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise Forbidden("url_forbidden") from None
        scheme_fits = parts.scheme == "https" or (parts.scheme == "http" and self.plain_http)
        if not scheme_fits or port == 0 or "@" in parts.netloc or not (_is_name(host) or _is_literal(host)):
            raise Forbidden("url_forbidden")

    def check(self, addresses: Iterable[str], port: int) -> list[str]:
        """The addresses, in their order, if every one of them may be reached on this port; else raises Forbidden."""
        judged = list(addresses)
        for text in judged:
            address = _unmapped(ip_address(text))
            if not _is_in(address, self.trusted) and (port not in self.ports or not is_public(address)):
                raise Forbidden("address_forbidden")
        return judged


def is_public(address: Address) -> bool:
    """Whether an address belongs to somebody on the internet rather than to this machine or its neighbours."""
    address = _unmapped(address)
    if isinstance(address, IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id is not None):
        return False
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not _is_in(address, _NEVER)


def _unmapped(address: Address) -> Address:
    """The IPv4 address that stands in an IPv6 one: mapped (::ffff:0:0/96), or behind the well-known NAT64 prefix."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _is_name(host: str) -> bool:
    return len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None and _ENDS_IN_NUMBER.search(host) is None


def _is_literal(host: str) -> bool:
    """Whether this is an address as it is written properly: four plain decimal numbers, or IPv6."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


async def resolve(host: str) -> Sequence[str]:
    """The addresses of a name, in the order in which they are to be tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedNetwork(AsyncNetworkBackend):
    """TCP connections under the rules of an Egress, for httpcore. A connection raises Forbidden besides its errors."""

    def __init__(self, egress: Egress, resolver: Resolver = resolve) -> None:
        self._egress = egress
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, timeout, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError from error

    async def _connect(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[SOCKET_OPTION] | None,
    ) -> AsyncNetworkStream:
        named = [host] if _is_literal(host) else await self._resolver(host)
        addresses = self._egress.check(named, port)
        # One address that swallows packets must not use up the others' time.
        share = timeout / len(addresses) if timeout is not None and addresses else None
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError()
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
