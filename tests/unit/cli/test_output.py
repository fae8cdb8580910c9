from __future__ import annotations

import json

import pytest

from orchestrator.cli.output import Output, print_list, print_one, text_of

JOURNEY = {"id": "welcome", "hasDraft": False, "latestVersion": 3, "goal": {"eventName": "purchase"}, "tags": []}


def test_a_list_is_a_table_of_the_columns_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([JOURNEY, {"id": "x" * 300}], ("id", "hasDraft", "latestVersion"), Output.TABLE)

    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "hasDraft", "latestVersion"]
    assert first.split() == ["welcome", "no", "3"]
    assert second.strip() == "x" * 300


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([JOURNEY], ("id",), Output.JSON)

    assert json.loads(capsys.readouterr().out) == [JOURNEY]


def test_one_resource_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    print_one(JOURNEY, Output.TABLE)

    assert "goal           eventName: purchase" in capsys.readouterr().out


def test_stored_texts_cannot_steer_the_terminal_or_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_one({"name": "\x1b[31mred [bold]and[/bold] \u202eback"}, Output.TABLE)

    assert capsys.readouterr().out.strip() == "name  \\x1b[31mred [bold]and[/bold] \\x202eback"
    assert text_of("two\nlines").plain == "two\nlines"
