"""Which addresses are one caller."""

from __future__ import annotations

import pytest

from orchestrator.api.peers import grpc_peer_of, peer_of


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_what_comes_from_one_place_is_one_peer(address: str, peer: str) -> None:
    assert peer_of(address) == peer


@pytest.mark.parametrize(
    ("told", "peer"),
    [
        ("ipv4:192.0.2.7:50123", "192.0.2.7"),
        ("ipv6:[2001:db8:1:2::9]:50123", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::9%5D:50123", "2001:db8:1:2::/64"),
        ("unix:/run/orchestrator.sock", ""),
    ],
)
def test_grpc_tells_it_in_its_own_way(told: str, peer: str) -> None:
    assert grpc_peer_of(told) == peer
