"""Where a call comes from, as far as one address tells one caller from another."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

#: What one customer gets of IPv6: within it, addresses cost nothing.
_PREFIX = 64


def peer_of(address: str) -> str:
    """The same for all that comes from one place; `address` is without a port."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""  # a socket of this machine
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, _PREFIX), strict=False))
    return str(ip)


def grpc_peer_of(peer: str) -> str:
    """The same for what gRPC tells: `ipv4:192.0.2.7:50123`, `ipv6:[2001:db8::1]:50123`, `unix:…`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return peer_of(unquote(rest).rpartition(":")[0].strip("[]"))
