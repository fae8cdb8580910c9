"""Calls that are made up of the contract, of every RPC and every documented route; some of them are carried out."""

from __future__ import annotations

import re

import pytest

from orchestrator.devstack.postgres import EmbeddedPostgres
from tests.acceptance.ground import Project, served_ground
from tests.acceptance.made_up_calls import make_up, strategies
from tests.acceptance.openapi_cases import ALL_NOUNS, OPERATIONS
from tests.integration.api.callers import RPCS

CALLS = 600


def test_every_rpc_and_every_documented_route_is_called() -> None:
    project = Project(project_id="acme", project_no=1, owner_key="", api_keys=["k0", "k1"], executions=["e0", "e1"])
    labels = set(strategies(project))

    documented = {label for label in OPERATIONS if not label.split(" ")[1].startswith("/v1/")}
    unmet = {label for label in documented if not any(_fits(label, called) for called in labels)}
    assert labels >= RPCS.keys()
    assert unmet == set()


def _fits(route: str, called: str) -> bool:
    """Whether the call is one of this route, whose variables are in braces."""
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)), called) is not None


@pytest.mark.timeout(600)  # a busy machine takes its time
async def test_made_up_calls_are_carried_out_or_refused_by_name_and_place(
    postgres: EmbeddedPostgres, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_ground(postgres, template) as ground:
        project = await ground.project("made-up", ALL_NOUNS)

        made = await make_up(ground, project, calls=CALLS)

    assert made.findings == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert made.calls >= CALLS * 3 // 4, made
    assert made.ends["OK"] >= CALLS // 10, made
    assert made.written >= CALLS // 100, made
