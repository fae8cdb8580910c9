"""Projects: ids and settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.project import (
    RESERVED_PROJECT_IDS,
    ProjectSettings,
    project_id_fault,
    settings_document,
    settings_faults,
    stored_settings,
)
from orchestrator.predicates.spans import read_span

SETTINGS = st.builds(
    ProjectSettings,
    time_zone=st.sampled_from(["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"]),
    goal_window=st.timedeltas(timedelta(seconds=1), timedelta(days=365)),
    max_journeys=st.none() | st.integers(0, 1_000_000),
    event_retention=st.none() | st.timedeltas(timedelta(days=1), timedelta(days=36_500)),
    shown_fields=st.sampled_from([(), ("plan", "a\\.b", "$entry.amount")]),
)


@pytest.mark.parametrize("chosen", ["default", "a", "acme-2", "x" * 63])
def test_a_project_id_is_a_host_name(chosen: str) -> None:
    assert project_id_fault(chosen, "project.id") is None


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("", "REQUIRED"),
        ("x" * 64, "TOO_LONG"),
        ("Acme", "INVALID_ID"),
        ("2acme", "INVALID_ID"),
        ("acme-", "INVALID_ID"),
        ("a_b", "INVALID_ID"),
        ("a/b", "INVALID_ID"),
        ("ä", "INVALID_ID"),
        *((reserved, "INVALID_ID") for reserved in sorted(RESERVED_PROJECT_IDS)),
    ],
)
def test_other_project_ids_are_refused(chosen: str, reason: str) -> None:
    fault = project_id_fault(chosen, "project.id")

    assert fault is not None
    assert (fault.path, fault.reason) == ("project.id", reason)


@given(SETTINGS)
def test_settings_come_back_as_they_were_stored(settings: ProjectSettings) -> None:
    assert settings_faults(settings, "settings") == []
    assert stored_settings(settings_document(settings)) == settings


def test_a_stored_window_is_a_duration_people_can_read() -> None:
    document = settings_document(ProjectSettings(goal_window=timedelta(days=14)))

    assert document["goalWindow"] == "2w"
    assert read_span(document["goalWindow"]) == timedelta(days=14)


def test_settings_that_were_never_set_are_the_defaults() -> None:
    assert stored_settings({}) == ProjectSettings(time_zone="UTC", goal_window=timedelta(days=7), max_journeys=None)


def test_all_faults_of_settings_come_together() -> None:
    settings = ProjectSettings(
        time_zone="Berlin", goal_window=timedelta(0), max_journeys=-1, event_retention=timedelta(hours=23)
    )

    assert [(fault.path, fault.reason) for fault in settings_faults(settings, "project.settings")] == [
        ("project.settings.timeZone", "INVALID_VALUE"),
        ("project.settings.goalWindow", "OUT_OF_RANGE"),
        ("project.settings.maxJourneys", "OUT_OF_RANGE"),
        ("project.settings.eventRetention", "OUT_OF_RANGE"),
    ]


def test_settings_of_a_newer_release_are_kept_by_an_older_one_that_changes_others() -> None:
    stored = {"timeZone": "Europe/Berlin", "louderHours": {"from": "22:00"}}

    changed = settings_document(replace(stored_settings(stored), max_journeys=3))

    assert changed["louderHours"] == {"from": "22:00"}
    assert (changed["timeZone"], changed["maxJourneys"]) == ("Europe/Berlin", 3)
