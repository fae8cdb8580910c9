"""A journey's definition as people write it: the JSON form, the same in HTTP, YAML and the database (docs/journeys.md).

What is read here is shape: types, ids, ranges, one kind per step (`step_forms.py`, `condition_forms.py`). A draft must
have its shape; it may leave references open (`next`, `otherwise`, `communicationId` absent or naming nothing), which
`journey_graph.py` refuses when it is published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from orchestrator.domain.auto_pause import read_auto_pause
from orchestrator.domain.canvas import read_canvas
from orchestrator.domain.condition_forms import read_exit_rules
from orchestrator.domain.entry_forms import (
    read_entry_condition,
    read_entry_grace,
    read_schedule,
    read_while_paused,
)
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.graph_form import STEPS_MEMBERS, WRITTEN_AS
from orchestrator.domain.graph_reading import GraphReader
from orchestrator.domain.journey import Definition, Reentry, ReentryKind
from orchestrator.domain.sending_forms import read_holdout, read_hours
from orchestrator.domain.step_forms import read_steps
from orchestrator.predicates.canonical import canonical
from orchestrator.predicates.faults import Fault, Unreadable, under

MAX_REENTRY_INTERVAL = timedelta(days=3650)
MAX_DURATION_DAYS = 365

#: What a new journey starts from when its author gives no steps.
ONE_EXIT: dict[str, Any] = {"steps": [{"id": "exit", "exit": {"reason": "finished"}}]}

_DEFINITION_FIELDS = (
    "audienceId", "triggerContractId", "reentry", "maxDurationDays", "steps", "followLiveCommunications", "exitRules",
    "exitOnGoal", "sendWindow", "holdout", "autoPause", "startsAt", "endsAt", "whilePaused", "entryGrace",
    "entryCondition", "schedule", "start", "canvas", "definition", WRITTEN_AS,
)  # fmt: skip

_POLICIES = {kind.value: kind for kind in ReentryKind}


def parse(document: object, path: str = "") -> tuple[Definition | None, list[Fault]]:
    """Read a definition; with faults there is none. `path` is where the document stands in the caller's request.

    An absent member and a null are the same thing. Absent references become "" (steps) or None (audience, contract).
    """
    form = FormReader()
    definition = _definition(form, document, path)
    return (None, form.faults) if form.faults else (definition, [])


def stored(document: object) -> Definition:
    """Read a definition that was checked when it was written. Raises Unreadable."""
    definition, faults = parse(document)
    if definition is None:
        raise Unreadable("a stored definition", faults)
    return definition


def digest(document: object) -> bytes:
    """SHA-256 over a JSON value, unchanged by being kept in a database: keys sorted, whole floats as integers."""
    return hashlib.sha256(canonical(document, ascii_only=True).encode()).digest()


def kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """A definition without faults as it is kept: with steps, whichever of the two forms its author wrote."""
    if document.get("definition") is None:
        return dict(document)
    rest = {name: value for name, value in document.items() if name not in ("definition", *STEPS_MEMBERS)}
    return {**rest, **GraphReader(FormReader(), document["definition"], "").steps}


def _definition(form: FormReader, document: object, path: str) -> Definition | None:
    fields = form.members(document, path, _DEFINITION_FIELDS)
    if fields is None:
        return None
    if fields.get("definition") is not None:
        return _of_graph(form, fields, path)
    read_canvas(form, fields.get("canvas"), under(path, "canvas"), _DEFINITION_FIELDS)
    starts_at = form.instant(fields.get("startsAt"), under(path, "startsAt"))
    ends_at = form.instant(fields.get("endsAt"), under(path, "endsAt"))
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        form.fault(under(path, "endsAt"), "INVALID_VALUE", "must be later than startsAt")
    contract_id = form.reference(fields.get("triggerContractId"), under(path, "triggerContractId")) or None
    condition = read_entry_condition(form, fields.get("entryCondition"), under(path, "entryCondition"))
    if contract_id is not None and condition is not None:
        message = "a journey starts on a trigger contract or on its own entry condition, not on both"
        form.fault(under(path, "entryCondition"), "TWO_TRIGGERS", message)
    days = form.number(fields.get("maxDurationDays"), under(path, "maxDurationDays"), MAX_DURATION_DAYS, " days")
    return Definition(
        audience_id=form.reference(fields.get("audienceId"), under(path, "audienceId")) or None,
        trigger_contract_id=contract_id,
        entry_condition=condition,
        while_paused=read_while_paused(form, fields.get("whilePaused"), under(path, "whilePaused")),
        entry_grace=read_entry_grace(form, fields.get("entryGrace"), under(path, "entryGrace")),
        schedule=read_schedule(form, fields.get("schedule"), under(path, "schedule")),
        reentry=_reentry(form, fields.get("reentry"), under(path, "reentry")),
        max_duration=timedelta(days=days) if days is not None else None,
        exit_rules=read_exit_rules(form, fields.get("exitRules"), under(path, "exitRules")),
        exit_on_goal=form.flag(fields.get("exitOnGoal"), under(path, "exitOnGoal")),
        send_window=read_hours(form, fields.get("sendWindow"), under(path, "sendWindow")),
        holdout=read_holdout(form, fields.get("holdout"), under(path, "holdout")),
        auto_pause=read_auto_pause(form, fields.get("autoPause"), under(path, "autoPause")),
        steps=read_steps(form, fields.get("steps"), under(path, "steps")),
        start=form.reference(fields["start"], under(path, "start")) if fields.get("start") is not None else None,
        follow_live_communications=form.flag(
            fields.get("followLiveCommunications"), under(path, "followLiveCommunications")
        ),
        starts_at=starts_at,
        ends_at=ends_at,
    )


def _of_graph(form: FormReader, fields: Mapping[str, Any], path: str) -> Definition | None:
    at = under(path, "definition")
    if both := [name for name in STEPS_MEMBERS if fields.get(name) is not None]:
        form.fault(at, "INVALID_VALUE", f"either definition or {both[0]} can be given, not both")
        return None
    graph = GraphReader(form, fields["definition"], at, _DEFINITION_FIELDS)
    rest = {name: value for name, value in fields.items() if name not in ("definition", *STEPS_MEMBERS)}
    within = FormReader()
    definition = _definition(within, {**rest, **graph.steps}, path)
    told = {fault.path for fault in form.faults}
    form.faults += [fault for one in within.faults if (fault := graph.places.told(one, path)).path not in told]
    return definition


def _reentry(form: FormReader, value: object, path: str) -> Reentry | None:
    if value is None:
        return None
    fields = form.members(value, path, ("policy", "interval"))
    if fields is None:
        return None
    if fields.get("policy") is None:
        form.required(under(path, "policy"), f"must be one of {', '.join(_POLICIES)}")
    kind = form.choice(fields.get("policy"), under(path, "policy"), _POLICIES)
    if kind is None:
        return None
    at = under(path, "interval")
    if kind is ReentryKind.INTERVAL and fields.get("interval") is None:
        form.required(at, "a duration is required")
    elif kind is not ReentryKind.INTERVAL and fields.get("interval") is not None:
        form.fault(at, "INVALID_VALUE", f"only the policy {ReentryKind.INTERVAL.value} has an interval")
        return None
    return Reentry(kind=kind, interval=form.duration(fields.get("interval"), at, MAX_REENTRY_INTERVAL))
