"""Resources: what a change does to revision and times, and what counts as one."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.audience import Audience
from orchestrator.domain.communication import Communication
from orchestrator.domain.project import ProjectSettings
from orchestrator.domain.resource import changed, created, differ, holding, later, member_of, to_tick
from orchestrator.domain.segment import Segment
from orchestrator.domain.trigger_contract import Contract
from orchestrator.v1 import audience_pb2, communication_pb2, project_pb2, segment_pb2, trigger_contract_pb2

START = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)).map(lambda away: START + away)


@given(INSTANTS)
def test_times_are_kept_to_the_millisecond(now: datetime) -> None:
    resource = created("a", "content", now)

    assert resource.updated_at == resource.created_at == to_tick(now)
    assert timedelta(0) <= now - resource.created_at < timedelta(milliseconds=1)


@given(INSTANTS, st.lists(INSTANTS, max_size=20))
def test_every_change_is_later_by_a_millisecond_at_least(made_at: datetime, changes: list[datetime]) -> None:
    resource = created("a", 0, made_at)

    for number, now in enumerate(changes, start=1):
        after = changed(resource, number, now)
        assert after.updated_at - resource.updated_at >= timedelta(milliseconds=1)
        assert after.updated_at >= to_tick(now)
        assert (after.revision, after.content, after.created_at) == (number + 1, number, resource.created_at)
        resource = after


def test_a_change_takes_the_clock_as_it_is_where_that_has_gone_on() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)

    assert later(now - timedelta(days=1), now) == datetime(2026, 1, 1, 12, 0, 0, 123_000, tzinfo=UTC)


def test_a_view_of_a_resource_has_its_revision_and_times() -> None:
    resource = created("a", "whole", datetime(2026, 1, 1, tzinfo=UTC))

    assert holding(holding(resource, "part"), "whole") == resource


@pytest.mark.parametrize(
    ("before", "after", "different"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, True),
        ({"a": 1}, {"a": True}, True),
        ({"a": 0}, {"a": False}, True),
        ({"a": None}, {}, True),
        ({"a": 1e17}, {"a": 100000000000000000}, False),
        ({"a": [9.223372036854776e18]}, {"a": [9223372036854776000]}, False),
        ({"a": 1e300}, {"a": 10**300}, False),
        ({"a": 1e17}, {"a": 100000000000000016}, True),
        ({"a": 1.5}, {"a": 1}, True),
        (None, {"a": 1}, True),
        ({"a": 1}, None, True),
        (None, None, False),
        ("x", "x", False),
        ("x", "y", True),
    ],
)
def test_documents_differ_as_they_look(before: Any, after: Any, different: bool) -> None:
    assert differ(before, after) is different


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("audience", Audience, audience_pb2.Audience),
        ("segment", Segment, segment_pb2.Segment),
        ("communication", Communication, communication_pb2.Communication),
        ("trigger_contract", Contract, trigger_contract_pb2.TriggerContract),
        ("project", ProjectSettings, project_pb2.ProjectSettings),
    ],
)
def test_every_field_has_the_name_that_its_json_has(kind: str, content: Any, message: type[Message]) -> None:
    ours = {field.name for field in dataclasses.fields(content)} - {"unread", "of_newer_releases"}
    members = {field.json_name for field in message.DESCRIPTOR.fields}

    assert {member_of(kind, name) for name in ours} <= members
