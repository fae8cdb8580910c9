"""The fields of a project whose values are not personal, by its owner's word (docs/subjects.md#what-is-shown)."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.form_reader import FormReader
from orchestrator.predicates.faults import Fault, under
from orchestrator.predicates.parse import About

#: Settings are read with every look at a project, so they stay small.
MAX_SHOWN_FIELDS = 100
#: Characters of a path.
MAX_SHOWN_FIELD = 500


def shown_fields_faults(fields: Sequence[str], path: str) -> list[Fault]:
    """Everything that is wrong with them: each is a path as predicates of journeys have it, and stands there once."""
    form = FormReader()
    for at, field in form.elements(list(fields), path, MAX_SHOWN_FIELDS):
        assert isinstance(field, str), "they are texts"
        if not field.strip():
            form.required(at, "a path is required")
        elif len(field) > MAX_SHOWN_FIELD:
            form.fault(at, "TOO_LONG", f"has at most {MAX_SHOWN_FIELD} characters")
        elif form.field_path(field, at, about=About.EXECUTION) is not None and under(path, fields.index(field)) != at:
            form.fault(at, "INVALID_VALUE", "stands here twice")
    return form.faults
