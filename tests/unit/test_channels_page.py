"""What docs/channels.md says of communications is what can be saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.convert.communications import communication_content
from orchestrator.api.json_decode import decode
from orchestrator.cli.yaml_text import parse_documents
from orchestrator.domain.channels import CHANNELS, MAX_HEADERS, Rules
from orchestrator.domain.communication import CATEGORIES, CONTENT, MAX_SUBJECT_BYTES, faults_in
from orchestrator.domain.templates import MAX_SOURCE_BYTES
from orchestrator.v1.communication_pb2 import Communication

PAGE = (Path(__file__).parents[2] / "docs" / "channels.md").read_text()
SECTION = PAGE.split("\n## Communications\n", 1)[1].split("\n## ", 1)[0]
ROWS: dict[str, str] = dict(re.findall(r"^\| (`.*?) \| (.*) \|$", SECTION, re.MULTILINE))
HOOK = "https://example.com/hook"


def saved(**changes: Any) -> list[str]:
    """The paths of what is wrong with the example, changed so."""
    (written,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    (document,) = parse_documents(written)
    message, faults = decode(Communication, {name: document[name] for name in document if name != "kind"} | changes)
    return [fault.path for fault in [*faults, *faults_in(communication_content(message), "", Rules())]]


def test_the_example_can_be_saved() -> None:
    assert saved() == []


def test_every_member_is_explained() -> None:
    told = {name for names in ROWS for name in re.findall(r"`(\w+)`", names)}

    assert told == {"id", "name", *CONTENT, "contentRevision"}
    assert told < {field.json_name for field in Communication.DESCRIPTOR.fields}


def test_every_channel_and_category_is_named() -> None:
    assert set(re.findall(r"`(\w+)`", ROWS["`channel`"])) == set(CHANNELS)
    assert set(CATEGORIES) <= set(re.findall(r"`(\w+)`", ROWS["`category`"]))


@pytest.mark.parametrize(
    ("channel", "settings"),
    [
        ("webhook", {"url": HOOK, "headers": {"authorization": "Bearer of-the-receiver"}}),
        ("email", {"to": "mail.work", "from": "a@example.com", "replyTo": "b@example.com", "html": "<p>Hi</p>"}),
        ("log", {}),
    ],
)
def test_settings_are_those_that_it_names_and_no_others(channel: str, settings: dict[str, Any]) -> None:
    told = re.findall(r"`(\w+)`", ROWS["`settings`"].split(f"of `{channel}`", 1)[1].split(";", 1)[0])

    assert set(settings) == set(told)
    assert saved(channel=channel, settings=settings) == []
    assert saved(channel=channel, settings={**settings, "louder": True}) == ["settings.louder"]


def test_its_limits_are_those_of_the_code() -> None:
    assert "of at most 8 KiB and 32 KiB" in ROWS["`subject`, `body`"]
    assert (MAX_SUBJECT_BYTES, MAX_SOURCE_BYTES) == (8 * 1024, 32 * 1024)
    assert "at most 20 names" in ROWS["`settings`"]
    assert MAX_HEADERS == 20
