"""Alerts and the dashboard ask for what servers and workers show, and each alert is explained."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.devstack.ports import free_ports
from tests.acceptance.command_line import CommandLine
from tests.acceptance.journey_files import GREETING
from tests.conftest import StartStack
from tests.eventually import eventually

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "orchestrator.json"

#: Shown once there was such a thing; nothing alerts on them.
ONCE_THERE = {"orchestrator_segment_subjects_total"}
#: Temporal's own, shown from the first fault on: whoever alerts on them asks whether they have appeared, too.
ONCE_FAILED = {"temporal_workflow_task_execution_failed_total"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every question that is asked, by who asks it."""
    asked = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            asked[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "5m")
    return asked


def selectors(expression: promql.Expr) -> Iterator[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(node)

    promql.walk(expression, visit)
    yield from found


@pytest.mark.parametrize("asked", sorted(expressions()))
def test_every_expression_can_be_read(asked: str) -> None:
    expression = promql.parse(expressions()[asked])

    assert [selector.name for selector in selectors(expression)]


def test_every_alert_has_what_a_rule_needs_and_a_paragraph_of_its_own() -> None:
    section = re.search(r"\n## Alerts\n(.*?)\n## ", PAGE, re.DOTALL)
    assert section is not None
    explained = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section[1], re.MULTILINE | re.DOTALL))

    assert [rule["alert"] for rule in rules()] == list(explained), "in the same order"
    for rule in rules():
        name = rule["alert"]
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert len(explained[name].strip()) > 60
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= {"instance", "pool", *kept_by(promql.parse(rule["expr"]))}, name


def added_up_by(expression: promql.Expr) -> set[tuple[str, str]]:
    """Metrics, and labels by which they are added up."""
    found: set[tuple[str, str]] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            found.update(
                (str(selector.name), label) for selector in selectors(node.expr) for label in node.modifier.labels
            )

    promql.walk(expression, visit)
    return found


def kept_by(expression: promql.Expr) -> set[str]:
    """The labels that an alert has, where it adds up by labels."""
    found: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)

    promql.walk(expression, visit)
    return found


def test_what_is_shown_once_it_has_failed_is_asked_whether_it_has_appeared() -> None:
    for rule in rules():
        found = [selector for selector in selectors(promql.parse(rule["expr"])) if selector.name in ONCE_FAILED]
        assert not found or any(selector.offset for selector in found), rule["alert"]


def test_panels_have_names_and_places_of_their_own() -> None:
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels()]

    assert len({panel["id"] for panel in panels()}) == len({panel["title"] for panel in panels()}) == len(panels())
    assert len(set(places)) == len(places)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


#: Of a metric: its name, and a label that is asked for with its value (empty: any; without a label: whatever it has).
Wanted = tuple[str, str, str]


def wanted() -> set[Wanted]:
    found: set[Wanted] = set()
    for expression in expressions().values():
        found |= {(name, label, "") for name, label in added_up_by(promql.parse(expression))}
        for selector in selectors(promql.parse(expression)):
            name = str(selector.name)
            found.add((name, "", ""))
            # Patterns name codes that a server which is well does not show.
            same = [matcher for matcher in selector.matchers.matchers if matcher.op == promql.MatchOp.Equal]
            found.update((name, matcher.name, matcher.value) for matcher in same if matcher.name != "grpc_code")
    return {(name, label, value) for name, label, value in found if name not in ONCE_THERE | ONCE_FAILED}


async def shown_at(pages: Sequence[str]) -> set[Wanted]:
    found: set[Wanted] = set()
    async with httpx.AsyncClient() as client:
        for page in pages:
            for family in text_string_to_metric_families((await client.get(page)).text):
                for sample in family.samples:
                    found.add((sample.name, "", ""))
                    for label, value in sample.labels.items():
                        found |= {(sample.name, label, value), (sample.name, label, "")}
    return found


async def test_what_is_asked_for_is_shown_by_a_server_and_a_worker(start_stack: StartStack, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    stack = await start_stack(workers=1, metrics_port=port)
    run = CommandLine(
        environment={"ORCHESTRATOR_ADDRESS": stack.addresses.grpc, "ORCHESTRATOR_API_KEY": stack.keys.owner}
    )
    pages = (f"{stack.addresses.http}/metrics", *stack.addresses.metrics)
    before = await shown_at(pages)
    (tmp_path / "greeting.yaml").write_text(GREETING)
    applied = await run("apply", "-f", str(tmp_path))
    enrolled = await run("journeys", "enroll", "greeting", "ada")
    assert (applied.code, enrolled.code) == (0, 0), applied.err + enrolled.err

    missing = wanted()
    assert len(missing) >= 25

    async def all_of_it() -> bool:
        missing.difference_update(await shown_at(pages))
        return not missing

    with contextlib.suppress(AssertionError):
        await eventually(all_of_it, within=60)
    assert missing == set()
    # Of what appears as 1, nobody can say that it has risen.
    counters = {name for name, _, _ in wanted() if name.startswith("orchestrator_") and name.endswith("_total")}
    assert counters - {name for name, _, _ in before} == set()
    assert ("grpc_server_handled_total", "grpc_code", "Internal") in before
