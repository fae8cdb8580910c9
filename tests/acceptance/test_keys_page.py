"""docs/keys.md is true."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from orchestrator.api.auth import BELIEVED_FOR
from orchestrator.api.policy import POLICY
from orchestrator.application.api_keys import DEFAULT_OVERLAP, MAX_OVERLAP
from orchestrator.devstack.stack import Stack
from orchestrator.domain.scope import Role
from tests.acceptance.command_line import CommandLine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "keys.md").read_text()


def calls_of_roles() -> dict[Role, list[str]]:
    """What the table says: patterns of calls, by role."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) ?\|$", PAGE, re.MULTILINE)
    return {Role[role.upper()]: re.findall(r"`([\w*]+)`", calls) for role, calls in rows}


def test_the_table_of_roles_is_the_policy_of_the_server() -> None:
    calls = calls_of_roles()
    ranks = (Role.VIEWER, Role.ADMIN, Role.OWNER)  # an editor may do what no other row names

    def lowest(rpc: str) -> Role:
        named = [role for role in ranks if any(fnmatchcase(rpc, pattern) for pattern in calls[role])]
        alone = [Role.OPERATOR] if rpc in calls[Role.OPERATOR] and rpc != "GetProject" else []
        alone += [Role.INTERNAL] if rpc in calls[Role.INTERNAL] else []
        return (named or alone or [Role.EDITOR])[0]

    rpcs = {method.split("/")[1]: rule for method, rule in POLICY.items()}
    assert set(calls) == set(Role)
    assert {rpc: lowest(rpc) for rpc in rpcs} == {rpc: rule.lowest for rpc, rule in rpcs.items()}
    assert set(calls[Role.OPERATOR]) == {rpc for rpc, rule in rpcs.items() if Role.OPERATOR in rule.roles}
    assert set(calls[Role.INTERNAL]) == {rpc for rpc, rule in rpcs.items() if Role.INTERNAL in rule.roles}


def test_its_numbers_are_those_of_the_code() -> None:
    assert "valid for a day" in PAGE
    assert DEFAULT_OVERLAP.days == 1
    assert f"up to {MAX_OVERLAP.days} days" in PAGE
    assert "for four seconds" in PAGE
    assert BELIEVED_FOR.total_seconds() == 4


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_its_commands_work(run: CommandLine, shared_stack: Stack, tmp_path: Path) -> None:
    making, commands, _ = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / ".orchestrator").mkdir()
    (tmp_path / ".orchestrator" / "operator.key").write_text(shared_stack.keys.operator)
    script = making.replace("localhost:8080", shared_stack.addresses.http).replace("curl ", "curl -sf ")

    process = await asyncio.create_subprocess_exec(
        "bash", "-eu", "-c", script, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    made, _ = await process.communicate()
    of_acme = run.but(ORCHESTRATOR_API_KEY=json.loads(made)["secret"])
    ran = [await of_acme(*line.split()[1:]) for line in commands.splitlines()]
    listed = await of_acme("keys", "list", "-o", "json")

    assert [command.code for command in ran] == [0, 0]
    assert sorted(key["role"] for key in listed.json) == ["owner", "viewer"]
