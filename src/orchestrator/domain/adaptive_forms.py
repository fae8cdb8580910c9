"""Steps whose arms learn, as people write them: arms with their shares, and how it is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.domain.apportionment import WHOLE
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.journey import (
    DELAY_MODELS,
    BranchLearning,
    ContextLearning,
    Stickiness,
)
from orchestrator.predicates.faults import under
from orchestrator.predicates.fields import whole_number
from orchestrator.predicates.paths import join_path

MOST_FLOOR = 0.5
MAX_HALF_LIFE_DAYS = 3_650
MAX_GRACE_DAYS = 30
MAX_EXPLORATION_SCALE = 1_000_000
#: Attributes that a step may look at, as `learning` takes them.
MAX_CONTEXT = 32

ADAPTIVE_BRANCH = ("arms", "stickiness", "salt", "learning")
NBA_DECISION = ("arms", "context", "stickiness", "salt", "learning")
ARM = ("id", "next", "share", "paused")

_STICKINESS = {stickiness.value: stickiness for stickiness in Stickiness}
_DELAY_MODELS = {model: model for model in DELAY_MODELS}


def read_stickiness(form: FormReader, body: Mapping[str, Any], path: str) -> Stickiness:
    return form.choice(body.get("stickiness"), under(path, "stickiness"), _STICKINESS) or Stickiness.SUBJECT


def read_share(form: FormReader, value: object, path: str) -> int | None:
    """A share as it is fixed, in millionths; None: it is learned."""
    share = _number(form, value, path, 0, 1)
    return round(share * WHOLE) if share is not None else None


def read_context(form: FormReader, value: object, path: str) -> tuple[tuple[str, ...], ...]:
    """The attributes that a step looks at."""
    if value is None or value == []:
        form.required(path, "name the attributes that it looks at")
    fields: list[tuple[str, ...]] = []
    for at, element in form.elements(value, path, MAX_CONTEXT):
        if element is None or element == "":
            form.required(at, "an attribute has a path")
            continue
        field = form.field_path(element, at)
        if field is None:
            continue
        if field in fields:
            form.fault(at, "INVALID_VALUE", f"{join_path(field)} stands here twice")
        fields.append(field)
    return tuple(fields)


def read_branch_learning(form: FormReader, value: object, path: str) -> BranchLearning:
    body = _members(form, value, path, ("minShare", "halfLifeDays", "delayModel", "graceDays"))
    usual = BranchLearning()
    min_share = _number(form, body.get("minShare"), under(path, "minShare"), 0, MOST_FLOOR)
    grace_days = _grace_days(form, body, path)
    return BranchLearning(
        min_share=min_share if min_share is not None else usual.min_share,
        half_life_days=_half_life(form, body, path),
        delay_model=form.choice(body.get("delayModel"), under(path, "delayModel"), _DELAY_MODELS) or usual.delay_model,
        grace_days=grace_days if grace_days is not None else usual.grace_days,
    )


def read_context_learning(form: FormReader, value: object, path: str) -> ContextLearning:
    body = _members(form, value, path, ("explorationScale", "minShare", "halfLifeDays", "graceDays"))
    usual = ContextLearning()
    scale = _scale(form, body.get("explorationScale"), under(path, "explorationScale"))
    min_share = _number(form, body.get("minShare"), under(path, "minShare"), 0, MOST_FLOOR)
    grace_days = _grace_days(form, body, path)
    return ContextLearning(
        exploration_scale=scale if scale is not None else usual.exploration_scale,
        min_share=min_share if min_share is not None else usual.min_share,
        half_life_days=_half_life(form, body, path),
        grace_days=grace_days if grace_days is not None else usual.grace_days,
    )


def _members(form: FormReader, value: object, path: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    return (form.members(value, path, known) if value is not None else None) or {}


def _half_life(form: FormReader, body: Mapping[str, Any], path: str) -> float | None:
    return _number(form, body.get("halfLifeDays"), under(path, "halfLifeDays"), 1, MAX_HALF_LIFE_DAYS)


def _grace_days(form: FormReader, body: Mapping[str, Any], path: str) -> int | None:
    value, at = body.get("graceDays"), under(path, "graceDays")
    if value is None:
        return None
    whole = whole_number(value)
    if whole is None:
        form.fault(at, "INVALID_TYPE", "must be a whole number of days")
    elif not 0 <= whole <= MAX_GRACE_DAYS:
        form.fault(at, "OUT_OF_RANGE", f"must be 0 to {MAX_GRACE_DAYS} days")
    else:
        return whole
    return None


def _scale(form: FormReader, value: object, path: str) -> float | None:
    number = _number(form, value, path, 0, MAX_EXPLORATION_SCALE)
    if number == 0:
        form.fault(path, "OUT_OF_RANGE", f"must be more than 0 and at most {MAX_EXPLORATION_SCALE}")
        return None
    return number


def _number(form: FormReader, value: object, path: str, least: int, most: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        form.fault(path, "INVALID_TYPE", "must be a number")
    elif math.isnan(value) or not least <= value <= most:
        form.fault(path, "OUT_OF_RANGE", f"must be {least} to {most}")
    else:
        return float(value)
    return None
