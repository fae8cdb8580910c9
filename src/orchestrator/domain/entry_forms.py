"""How subjects come into a journey, as people write it beside the graph: its own trigger, pauses, data that
is late, and a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from orchestrator.domain.enrollment_job import MAX_RATE
from orchestrator.domain.event import MAX_NAME_LENGTH
from orchestrator.domain.form_reader import FormReader
from orchestrator.domain.journey import WhilePaused
from orchestrator.domain.schedule import MAX_CRON, Cron, Schedule, read_cron
from orchestrator.domain.subject import is_time_zone
from orchestrator.domain.trigger_contract import (
    GREATEST_MAX_EVENT_AGE,
    MAX_EVENT_AGE,
    Contract,
    EntryCondition,
    Transition,
    completed,
    trigger_faults,
)
from orchestrator.predicates.faults import under
from orchestrator.predicates.parse import About

MAX_ENTRY_GRACE = timedelta(hours=1)
MAX_KEY_PATH = 8 * 1024
MAX_TIME_ZONE = 64

_WHILE_PAUSED = {kind.value: kind for kind in WhilePaused}
_TRANSITIONS: Mapping[str, Transition] = {"entered": "entered", "left": "left"}
_CONDITION_FIELDS = (
    "eventName", "segmentId", "predicate", "entryKeyPath", "maxEventAge", "transition", "includeDefinitionChanges",
)  # fmt: skip


def read_while_paused(form: FormReader, value: object, path: str) -> WhilePaused:
    return form.choice(value, path, _WHILE_PAUSED) or WhilePaused.REFUSE


def read_entry_grace(form: FormReader, value: object, path: str) -> timedelta | None:
    return form.duration(value, path, MAX_ENTRY_GRACE)


def read_entry_condition(form: FormReader, value: object, path: str) -> EntryCondition | None:
    """What a trigger contract has, but for its id and its name."""
    if value is None:
        return None
    fields = form.members(value, path, _CONDITION_FIELDS)
    if fields is None:
        return None
    contract = _contract(form, fields, path)
    told = {fault.path for fault in form.faults}
    form.faults.extend(fault for fault in trigger_faults(contract, path) if fault.path not in told)
    predicate = None
    if contract.predicate is not None:
        about = About.EVENT if fields.get("segmentId") in (None, "") else About.SUBJECT
        predicate = form.predicate(contract.predicate, under(path, "predicate"), about)
    return EntryCondition(contract=contract, predicate=predicate)


def _contract(form: FormReader, fields: Mapping[str, Any], path: str) -> Contract:
    max_event_age = form.duration(fields.get("maxEventAge"), under(path, "maxEventAge"), GREATEST_MAX_EVENT_AGE)
    return completed(
        Contract(
            name="",
            event_name=form.text(fields.get("eventName"), under(path, "eventName"), MAX_NAME_LENGTH),
            predicate=fields.get("predicate"),
            entry_key_path=form.text(fields.get("entryKeyPath"), under(path, "entryKeyPath"), MAX_KEY_PATH),
            max_event_age=MAX_EVENT_AGE if max_event_age is None else max_event_age,
            segment_id=form.reference(fields.get("segmentId"), under(path, "segmentId")) or None,
            transition=form.choice(fields.get("transition"), under(path, "transition"), _TRANSITIONS),
            include_definition_changes=form.flag(
                fields.get("includeDefinitionChanges"), under(path, "includeDefinitionChanges")
            ),
        )
    )


def read_schedule(form: FormReader, value: object, path: str) -> Schedule | None:
    """When a crowd is enrolled, and which."""
    if value is None:
        return None
    fields = form.members(value, path, ("at", "cron", "timeZone", "segmentId", "everyone", "ratePerSecond"))
    if fields is None:
        return None
    form.only_one(fields, ("at", "cron"), path, "a schedule is for one instant or goes by a clock")
    at = form.instant(fields.get("at"), under(path, "at"))
    if at is not None and at.microsecond:
        form.fault(under(path, "at"), "INVALID_VALUE", "is exact to the second")
    zone = form.text(fields.get("timeZone"), under(path, "timeZone"), MAX_TIME_ZONE)
    if zone is not None and not is_time_zone(zone):
        message = "must be a zone of the IANA time zone database, such as Europe/Berlin"
        form.fault(under(path, "timeZone"), "INVALID_VALUE", message)
    if zone is not None and fields.get("cron") is None:
        form.fault(under(path, "timeZone"), "INVALID_VALUE", "only what goes by a clock has a time zone")
    segment_id = form.reference(fields.get("segmentId"), under(path, "segmentId")) or None
    everyone = form.flag(fields.get("everyone"), under(path, "everyone"))
    if everyone and segment_id is not None:
        form.fault(under(path, "segmentId"), "INVALID_VALUE", "either a segment is enrolled or everyone, not both")
    return Schedule(
        at=at,
        cron=_cron(form, fields.get("cron"), under(path, "cron")),
        time_zone=zone or "UTC",
        segment_id=segment_id,
        everyone=everyone,
        rate=form.number(fields.get("ratePerSecond"), under(path, "ratePerSecond"), MAX_RATE, " entries a second"),
    )


def _cron(form: FormReader, value: object, path: str) -> Cron | None:
    text = form.text(value, path, MAX_CRON)
    if text is None:
        return None
    try:
        return read_cron(text)
    except ValueError as error:
        form.fault(path, "INVALID_VALUE", str(error))
        return None
