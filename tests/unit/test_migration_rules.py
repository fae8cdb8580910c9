"""Migrations are held against rules, and what is accepted has a reason."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from scripts.lint_migrations import INDEX_IN_A_MINUTE, Finding, judge, look

from orchestrator.storage.migrations import known_migrations, migrations_directory


@pytest.fixture(scope="module")
def accepted() -> dict[str, Any]:
    return tomllib.loads((migrations_directory() / "exceptions.toml").read_text())


def test_every_finding_in_a_released_migration_has_its_reason(accepted: dict[str, Any]) -> None:
    found = [
        finding
        for migration in known_migrations()
        for finding in look(migration.file_name, migration.sql, without=tuple(accepted["rules"]))
    ]

    assert len(found) >= len(accepted["exception"]) > 10
    assert judge(found, accepted) == []


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("CREATE INDEX executions_slow ON executions (started_at);", "require-concurrent-index-creation"),
        ("ALTER TABLE executions ALTER COLUMN version TYPE bigint;", "changing-column-type"),
        ("ALTER TABLE executions DROP COLUMN version;", "ban-drop-column"),
        ("ALTER TABLE executions RENAME COLUMN version TO v;", "renaming-column"),
        ("ALTER TABLE executions ADD CONSTRAINT c CHECK (version > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE executions ADD COLUMN kind text NOT NULL;", "adding-required-field"),
    ],
)
def test_what_stops_others_or_breaks_older_servers_is_found(accepted: dict[str, Any], sql: str, rule: str) -> None:
    header = "-- What it does.\n-- Safe under load: it is not.\n\n"
    found = look("9999_slow.sql", header + sql, without=tuple(accepted["rules"]))

    assert (found[0].rule, found[0].line) == (rule, 4)
    (fault,) = [fault for fault in judge(found, accepted) if fault.startswith("migrations/9999")][:1]
    assert fault.startswith(f"migrations/9999_slow.sql:4: {rule}: ")


def test_an_index_on_a_table_of_before_has_the_time_that_its_file_gives_it(accepted: dict[str, Any]) -> None:
    index = "CREATE INDEX enrollments_slow ON enrollments (triggered_at);"
    time = "SET LOCAL statement_timeout = '30min'; -- The ledger may be large."

    def rules(*lines: str) -> list[str]:
        return [one.rule for one in look("9999_slow.sql", "\n".join(lines), without=tuple(accepted["rules"]))]

    assert rules("-- What.", index) == ["require-concurrent-index-creation", INDEX_IN_A_MINUTE]
    assert rules("-- What.", time, index) == ["require-concurrent-index-creation"]
    assert rules("-- What.", index, time) == ["require-concurrent-index-creation", INDEX_IN_A_MINUTE]
    assert rules("-- What.", "CREATE TABLE fresh (x int);", "CREATE INDEX fresh_x ON fresh (x);") == []


def test_a_reason_that_nothing_needs_any_more_is_a_fault(accepted: dict[str, Any]) -> None:
    (first, *others) = accepted["exception"]
    found = [Finding(one["file"], 1, one["rule"], one["at"], "") for one in others]

    (fault,) = judge(found, accepted)

    assert first["file"] in fault
    assert "remove it" in fault


def test_an_empty_reason_is_none() -> None:
    finding = Finding("0001_a.sql", 3, "ban-drop-column", "DROP COLUMN b", "")
    excepted = {"file": "0001_a.sql", "rule": "ban-drop-column", "at": "DROP COLUMN b", "reason": " "}

    assert judge([finding], {"rules": {}, "exception": [excepted | {"reason": "Because."}]}) == []
    assert len(judge([finding], {"rules": {"x": ""}, "exception": [excepted]})) == 2
