"""docs/projects.md has every setting of a project, with the limits of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.domain import project, sending_forms, shown_fields
from orchestrator.domain.durations import format_duration
from orchestrator.v1.project_pb2 import ProjectSettings

PAGE = (Path(__file__).parents[2] / "docs" / "projects.md").read_text()
ROWS = {
    setting: (values, left_out)
    for setting, values, left_out in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .* \|$", PAGE, re.MULTILINE)
}


def test_every_setting_has_a_row() -> None:
    assert list(ROWS) == [field.json_name for field in ProjectSettings.DESCRIPTOR.fields]


@pytest.mark.parametrize(
    ("setting", "values", "is_so"),
    [
        ("goalWindow", "to 365 days", project.MAX_GOAL_WINDOW.days == 365),
        ("maxJourneys", "0 to 1,000,000", project.MAX_MAX_JOURNEYS == 1_000_000),
        (
            "eventRetention",
            "1 day to 36,500 days",
            (project.MIN_EVENT_RETENTION.days, project.MAX_EVENT_RETENTION.days) == (1, 36_500),
        ),
        (
            "frequencyCaps",
            "at most 20 of `{channel, category, limit, window}`: 1 to 10,000 within at most 365 days",
            (sending_forms.MAX_CAPS, sending_forms.MAX_CAP_LIMIT, sending_forms.MAX_CAP_WINDOW.days)
            == (20, 10_000, 365),
        ),
        ("globalHoldout", "1 to 99 percent", sending_forms.MAX_HOLDOUT_PERCENT == 99),
        ("channelRates", "at most 20", sending_forms.MAX_CHANNEL_RATES == 20),
        (
            "shownFields",
            "at most 100 paths, each of at most 500 characters",
            (shown_fields.MAX_SHOWN_FIELDS, shown_fields.MAX_SHOWN_FIELD) == (100, 500),
        ),
    ],
)
def test_its_limits_are_those_of_the_code(setting: str, values: str, is_so: bool) -> None:
    assert values in ROWS[setting][0]
    assert is_so


def test_what_holds_where_a_setting_is_left_out_is_what_the_code_says() -> None:
    default = project.ProjectSettings()

    assert ROWS["timeZone"][1] == f"`{default.time_zone}`"
    assert (ROWS["goalWindow"][1], format_duration(default.goal_window)) == ("7 days", "1w")
    assert (default.max_journeys, default.event_retention, default.quiet_hours, default.global_holdout) == (None,) * 4
    assert (default.frequency_caps, default.channel_rates, default.shown_fields) == ((), (), ())


def test_ids_are_as_long_as_they_may_be() -> None:
    assert f"1 to {project.MAX_PROJECT_ID_LENGTH} of" in PAGE
