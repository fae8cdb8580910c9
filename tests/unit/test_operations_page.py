"""docs/operations.md speaks of things that are there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.api.admission_control import CRITICAL_SHARE
from orchestrator.api.codec_tokens import SESSION
from orchestrator.api.health import State
from orchestrator.api.metrics import CallMetrics, LoadMetrics, StateMetrics
from orchestrator.api.pipeline import DEFAULT_TIME_LIMIT, MAX_TIME_LIMIT
from orchestrator.application import doctor
from orchestrator.application.audit_sealing import ANCHOR_AGE, ANCHOR_ENTRIES
from orchestrator.cli.app import COMMANDS
from orchestrator.cli.settings import variable_of
from orchestrator.devstack.processes import _LOG_LIMIT_BYTES
from orchestrator.domain.audit import CATALOGUE
from orchestrator.domain.project import MAX_EVENT_RETENTION, MIN_EVENT_RETENTION
from orchestrator.domain.sent_test import KEPT_FOR as TESTS_KEPT
from orchestrator.server import CRITICAL_POOL
from orchestrator.settings import Settings
from orchestrator.storage.doctor_checks import CHECKS
from orchestrator.storage.inbox import MAX_ATTEMPTS
from orchestrator.storage.membership_history import STAYS_KEPT
from orchestrator.storage.migrations import OLDEST_POSTGRES
from orchestrator.storage.pool import API_ROLE, STANDSTILL, WORKER_ROLE
from orchestrator.storage.refusal_counts import SHARDS
from orchestrator.storage.refused_entries import KEPT
from orchestrator.storage.refused_entries import KEPT_FOR as REFUSED_KEPT
from orchestrator.storage.upkeep import EVENTS_KNOWN, REQUESTS_KEPT
from orchestrator.temporal.contract import SEARCH_ATTRIBUTES
from workers.process import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
LIMITS_OF_RETENTION = (MIN_EVENT_RETENTION.days, MAX_EVENT_RETENTION.days)
WORDS = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_every_metric_is_counted() -> None:
    ours = (ROOT / "src" / "workers" / "metrics.py").read_text()
    registry = CollectorRegistry()
    CallMetrics(registry, ())
    LoadMetrics(registry, lambda: 0)
    StateMetrics(registry, lambda: State(ready=True, degraded=False), {})
    of_server = {family.name for family in registry.collect()}

    named = {word.partition("{")[0] for word in WORDS if re.match(r"(orchestrator|grpc_server)_\w+[\w{]", word)}
    named -= {API_ROLE, WORKER_ROLE}
    of_workers = {name.removesuffix("_total") for name in named} - of_server

    assert len(of_workers) > 12
    assert [name for name in of_workers if f'"{name}"' not in ours] == []


def test_every_check_of_the_doctor_exists() -> None:
    checks = {check.name for check in CHECKS} | set(doctor._REMEDIES)
    section = re.search(r"## Doctor\n(.*?)\n## ", PAGE, re.DOTALL)
    assert section is not None
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", section[1])) | {"workflows_without_execution"}

    assert len(named) > 6
    assert named <= checks


def test_every_command_and_setting_exists() -> None:
    commands = {word.split()[1] for word in WORDS if re.match(r"orchestrator [a-z]", word)}
    variables = {variable_of(name, field) for name, field in Settings.model_fields.items()}

    assert {"serve", "worker", "codec-server", "up", "doctor", "migrate", "erasures"} <= commands
    assert commands <= set(COMMANDS)
    assert {word for word in WORDS if re.fullmatch(r"ORCHESTRATOR_[A-Z_]+", word)} <= variables


@pytest.mark.parametrize(
    ("words", "is_so"),
    [
        ("PostgreSQL ≥ 15", OLDEST_POSTGRES == 15),
        ("has 25 seconds to finish", Limits().grace == timedelta(seconds=25)),
        ("takes these from it after 60 seconds", STANDSTILL.total_seconds() == 60),
        ("failed ten times", MAX_ATTEMPTS == 10),
        ("| answers stored for `request_id` | 7 days |", REQUESTS_KEPT.days == 7),
        ("| ids of events, by which repeats are known | 30 days |", EVENTS_KNOWN.days == 30),
        (
            "| refused entries that can be decided on again | 7 days, and 50,000 for each journey, reason and hour;",
            (REFUSED_KEPT.days, KEPT * SHARDS) == (7, 50_000),
        ),
        (
            "| test sends | 7 days; what they said and to whom, until they are handed over, an hour at most |",
            TESTS_KEPT.days == 7,
        ),
        ("| who came to a segment and left it | 90 days from the leaving;", STAYS_KEPT.days == 90),
        ("`eventRetention` says (1 day to 36,500 days)", LIMITS_OF_RETENTION == (1, 36_500)),
        ("when 1,000 entries were sealed since the last one", ANCHOR_ENTRIES == 1000),
        ("or it is ten minutes old", timedelta(minutes=10) == ANCHOR_AGE),
        ("a file over 20 MiB", _LOG_LIMIT_BYTES == 20 * 2**20),
        ("7 days in `docker-compose.yml`", "--retention 168h" in (ROOT / "docker-compose.yml").read_text()),
        ("log in with a token (for 12 hours)", timedelta(hours=12) == SESSION),
        ("It listens on 127.0.0.1:8081", (Settings().codec_host, Settings().codec_port) == ("127.0.0.1", 8081)),
        (
            "10 seconds where he says nothing, 60 at most",
            (timedelta(seconds=10), timedelta(seconds=60)) == (DEFAULT_TIME_LIMIT, MAX_TIME_LIMIT),
        ),
        (
            "A fifth of the places and two connections are kept",
            (CRITICAL_SHARE, CRITICAL_POOL) == (0.2, 2),
        ),
        (
            "Four, as in `docker-compose.yml` (`NUM_HISTORY_SHARDS`)",
            "NUM_HISTORY_SHARDS: 4\n" in (ROOT / "docker-compose.yml").read_text(),
        ),
        ("Allow 30 seconds", "stop_grace_period: 30s" in (ROOT / "docker-compose.yml").read_text()),
    ],
)
def test_its_numbers_are_those_of_the_code(words: str, is_so: bool) -> None:
    assert words in " ".join(PAGE.split())
    assert is_so


def test_every_action_of_the_audit_log_is_listed_as_it_is() -> None:
    section = PAGE.split("\n### What it says\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]

    assert rows == [
        f"| `{action.resource_kind}` | `{action.name}` | {_words(action.metadata)}| {action.meaning} |"
        for action in CATALOGUE.values()
    ]


def _words(names: Iterable[str]) -> str:
    return (", ".join(f"`{name}`" for name in names) + " ").lstrip()


def test_it_names_every_search_attribute_with_its_type() -> None:
    (command,) = re.findall(r"^temporal operator search-attribute create (.*)$", PAGE, re.MULTILINE)

    assert dict(re.findall(r"--name (\w+) --type (\w+)", command)) == SEARCH_ATTRIBUTES
