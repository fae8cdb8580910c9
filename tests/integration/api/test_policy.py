"""Every RPC with every role: exactly what the policy table says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from orchestrator.api.json_decode import decode
from orchestrator.api.methods import services
from orchestrator.api.policy import POLICY
from orchestrator.domain.scope import Role
from tests.integration.api.callers import RPCS, Caller, Refused
from tests.integration.api.conftest import INTERNAL_TOKEN, OPERATOR_KEY, Keys, Served
from tests.unit.api.good_requests import REQUESTS

if TYPE_CHECKING:
    from asyncpg import Connection, Record

#: Tried in tests of their own.
OWNERS_ONLY = {("SimulateJourney", "overrides")}

PROJECT_ROLES = (Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER)


def request_of(rpc: str) -> Message:
    """A request that says everything it can, but for what is denied to some whom the table lets in."""
    said = {name: value for name, value in REQUESTS[rpc].items() if (rpc, name) not in OWNERS_ONLY}
    message, _ = decode(GetMessageClass(RPCS[rpc].input_type), said)
    return message


async def counts(owner: Connection[Record]) -> dict[str, int]:
    """How many rows each table has."""
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row[0]: await owner.fetchval(f"SELECT count(*) FROM {row[0]}") for row in tables}


@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_every_rpc_and_role_is_as_the_table_says(served: Served, keys: Keys, transport: str) -> None:
    caller: Caller = served.grpc if transport == "grpc" else served.http
    elsewhere = await keys.project("elsewhere")
    bearers: dict[str, tuple[Role | None, str | None]] = {
        "nobody": (None, None),
        "operator": (Role.OPERATOR, OPERATOR_KEY),
        "internal": (Role.INTERNAL, INTERNAL_TOKEN),
    }
    for of_project in PROJECT_ROLES:
        # Of a project without anything in it: what they may, they may in vain.
        bearers[of_project.name.lower()] = (of_project, await keys.admit(of_project, elsewhere))
    checked = 0
    for rpc in RPCS:
        rule = POLICY[f"{RPCS[rpc].containing_service.full_name}/{rpc}"]
        for name, (role, key) in bearers.items():
            outcome = await outcome_of(caller, request_of(rpc), key)
            if role is None:
                assert outcome == "UNAUTHENTICATED", (rpc, name)
            elif role in rule.roles:
                assert outcome not in ("UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL"), (rpc, name, outcome)
            else:
                assert outcome == "PERMISSION_DENIED", (rpc, name, outcome)
            checked += 1

    assert checked == len(POLICY) * 7
    print(f"{len(POLICY)} RPCs x 7 bearers over {transport}: {checked} as the table says")  # noqa: T201


async def test_what_is_denied_has_changed_nothing(served: Served, keys: Keys, owner: Connection[Record]) -> None:
    denied = 0
    bearers: list[tuple[Role, str]] = [(role, await keys.admit(role)) for role in PROJECT_ROLES]
    bearers += [(Role.OPERATOR, OPERATOR_KEY), (Role.INTERNAL, INTERNAL_TOKEN)]
    before = await counts(owner)

    for service in services():
        for rpc in service.methods:
            rule = POLICY[f"{service.full_name}/{rpc.name}"]
            for role, key in bearers:
                if role not in rule.roles:
                    assert await outcome_of(served.grpc, request_of(rpc.name), key) == "PERMISSION_DENIED"
                    denied += 1

    assert denied > 150
    assert await counts(owner) == before


async def outcome_of(caller: Caller, request: Message, key: str | None) -> str:
    try:
        await caller.call(request, key=key)
    except Refused as refusal:
        return refusal.code
    return "OK"
