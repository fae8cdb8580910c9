"""Protos, policy and handlers have to fit together."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from orchestrator.api.call import Call, own_transactions
from orchestrator.api.methods import IncompleteApi, open_to, services, table
from orchestrator.api.policy import POLICY, Rule
from orchestrator.domain.scope import Role

AUDIT = [service for service in services() if service.name == "AuditService"]
NAME = "orchestrator.v1.AuditService/ListAuditEntries"
RULES = {name: rule for name, rule in POLICY.items() if name.startswith("orchestrator.v1.AuditService/")}


class AuditLog:
    @own_transactions
    async def ListAuditEntries(self, request: Message, call: Call) -> Message:  # noqa: N802
        return request

    async def VerifyAuditLog(self, request: Message, call: Call) -> Message:  # noqa: N802
        return request


class Stray:
    async def ListNothing(self, request: Message, call: Call) -> Message:  # noqa: N802
        return request


def test_a_method_is_what_proto_policy_and_handler_say() -> None:
    method = table(AUDIT, RULES, [AuditLog()])[NAME]

    assert (method.name, method.rpc, method.rule) == (NAME, "ListAuditEntries", POLICY[NAME])
    assert method.own_transactions
    assert not method.mutates
    assert [rule.get for rule in method.http] == ["/v1/auditEntries"]


def test_an_rpc_without_a_row_in_the_policy_keeps_the_server_from_starting() -> None:
    with pytest.raises(IncompleteApi, match="ListAuditEntries has no row in the policy"):
        table(AUDIT, {}, [AuditLog()])


def test_an_rpc_without_a_handler_keeps_the_server_from_starting() -> None:
    with pytest.raises(IncompleteApi, match="ListAuditEntries has no handlers"):
        table(AUDIT, RULES, [])


def test_an_rpc_with_two_handlers_keeps_the_server_from_starting() -> None:
    with pytest.raises(IncompleteApi, match="ListAuditEntries has 2 handlers"):
        table(AUDIT, RULES, [AuditLog(), AuditLog()])


def test_a_handler_that_serves_no_rpc_keeps_the_server_from_starting() -> None:
    with pytest.raises(IncompleteApi, match="ListNothing serves no RPC"):
        table(AUDIT, RULES, [AuditLog(), Stray()])


def test_an_rpc_that_names_no_project_is_not_open_to_the_internal_token() -> None:
    rule = Rule(roles=frozenset({Role.INTERNAL}), lowest=Role.INTERNAL)

    with pytest.raises(IncompleteApi, match=r"ListAuditEntries is open to the internal token, .* names none"):
        table(AUDIT, {NAME: rule}, [AuditLog()])


def test_what_is_open_to_some_roles_is_open_to_them_alone() -> None:
    rule = Rule(roles=frozenset({Role.EDITOR, Role.OWNER}), lowest=Role.EDITOR)
    methods = table(AUDIT, dict.fromkeys(RULES, rule), [AuditLog()])

    assert open_to(methods, {Role.VIEWER, Role.INTERNAL}) == {}
    left = open_to(methods, {Role.OWNER, Role.INTERNAL})
    assert [method.rule for method in left.values()] == [Rule(roles=frozenset({Role.OWNER}), lowest=Role.OWNER)] * 2
    assert open_to(methods, frozenset(Role)) == methods


def test_a_row_for_no_rpc_keeps_the_server_from_starting() -> None:
    with pytest.raises(IncompleteApi, match="GetJourney is in the policy and not in the protos"):
        table(AUDIT, {**RULES, "orchestrator.v1.JourneyService/GetJourney": POLICY[NAME]}, [AuditLog()])


def test_the_policy_has_a_row_for_each_rpc_and_no_other() -> None:
    declared = {f"{service.full_name}/{rpc.name}" for service in services() for rpc in service.methods}

    assert POLICY.keys() == declared


def test_each_role_of_a_project_may_what_the_ones_before_it_may() -> None:
    order = [Role.VIEWER, Role.EDITOR, Role.ADMIN, Role.OWNER]
    for name, rule in POLICY.items():
        allowed = [role in rule.roles for role in order]
        assert allowed == sorted(allowed), name


def test_secrets_of_responses_are_known() -> None:
    secret = {
        rpc.name
        for service in services()
        for rpc in service.methods
        if any(field.GetOptions().debug_redact for field in rpc.output_type.fields)
    }

    assert secret == {"CreateApiKey", "RotateApiKey", "CreateProject"}
