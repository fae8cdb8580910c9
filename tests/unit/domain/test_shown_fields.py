"""Fields that may be shown: which paths may be marked."""

from __future__ import annotations

import pytest

from orchestrator.domain.project import ProjectSettings, settings_faults
from orchestrator.domain.shown_fields import MAX_SHOWN_FIELD, MAX_SHOWN_FIELDS


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("plan", "plan.name", "address.city"),
        ("a\\.b", "$entry.amount", "$steps.check.score", "$subject.created_at"),
        ("x" * MAX_SHOWN_FIELD,),
        tuple(f"field_{number}" for number in range(MAX_SHOWN_FIELDS)),
    ],
)
def test_what_a_predicate_of_a_journey_may_read_may_be_marked(fields: tuple[str, ...]) -> None:
    assert settings_faults(ProjectSettings(shown_fields=fields), "settings") == []


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        (("plan", "", " "), [("[1]", "REQUIRED"), ("[2]", "REQUIRED")]),
        (("a..b", "a.", "a\\b"), [("[0]", "INVALID_VALUE"), ("[1]", "INVALID_VALUE"), ("[2]", "INVALID_VALUE")]),
        (("$entry", "$steps", "$steps.check"), [(f"[{number}]", "INVALID_VALUE") for number in range(3)]),
        (("$subject", "$subject.id"), [("[0]", "INVALID_VALUE"), ("[1]", "INVALID_VALUE")]),
        (("plan", "name", "plan"), [("[2]", "INVALID_VALUE")]),
        (("x" * (MAX_SHOWN_FIELD + 1),), [("[0]", "TOO_LONG")]),
        (tuple(f"f{number}" for number in range(MAX_SHOWN_FIELDS + 1)), [("", "TOO_LARGE")]),
    ],
)
def test_other_paths_are_refused_each_with_its_place(fields: tuple[str, ...], faults: list[tuple[str, str]]) -> None:
    told = settings_faults(ProjectSettings(shown_fields=fields), "settings")

    assert [(fault.path, fault.reason) for fault in told] == [
        (f"settings.shownFields{place}", reason) for place, reason in faults
    ]


def test_settings_reveal_the_fields_they_have() -> None:
    reveal = ProjectSettings(shown_fields=("a\\.b", "$entry.amount")).reveal

    assert reveal(("a.b",))
    assert reveal(("$entry", "amount", "cents"))
    assert not reveal(("a", "b"))
    assert not ProjectSettings().reveal(("a.b",))
