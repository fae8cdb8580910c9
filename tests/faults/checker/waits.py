"""I5: no wait ends early, and none ends late but by what was away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from tests.core.oracle_json import Json, span_of
from tests.faults.checker.evidence import Event, Evidence, Execution
from tests.faults.checker.verdicts import Verdict
from tests.faults.checker.ways import COMMITTED, steps_of, visits_of


def waited_as_long_as_it_had_to(evidence: Evidence, verdict: Verdict) -> None:
    """I5, of waits for a length of time, and of waits for events and their timeouts. Instants are the database's."""
    ledger = evidence.ledger
    steps = {key: steps_of(definition) for key, definition in ledger.versions.items()}
    visits = visits_of(ledger.visits)
    happened: defaultdict[int, list[Event]] = defaultdict(list)
    for event in ledger.events:
        happened[event.subject_no].append(event)
    for execution in ledger.executions:
        passed = visits.get(execution.execution_id, [])
        for visit in passed:
            step = steps.get((execution.project, execution.journey_id, visit.version), {}).get(visit.step_id)
            if step is None or visit.result != "executed":
                continue
            which = f"execution {execution.execution_id}, step {visit.step_id}"
            for fault in _passed(step, visit.entered_at, visit.left_at, visit.reason, happened[execution.subject_no]):
                verdict.find(which, fault)
            due = _due(step, visit.entered_at, visit.reason, happened[execution.subject_no])
            if due is None:
                continue
            verdict.look()
            _late(evidence, verdict, which, due, visit.left_at)
        if execution.outcome is None and not execution.parked:
            _standing(evidence, verdict, execution, steps, happened[execution.subject_no])


def _standing(evidence: Evidence, verdict: Verdict, execution: Execution, steps: Json, happened: list[Event]) -> None:
    """Who still waits and should not."""
    step = steps.get((execution.project, execution.journey_id, execution.version), {}).get(execution.step_id)
    if step is None:
        return
    instants = [execution.wakes_at, _due(step, execution.since, None, happened)]
    came = _came(step, execution.since, happened)
    due = min((instant for instant in (*instants, came) if instant is not None), default=None)
    if due is not None:
        verdict.look()
        which = f"execution {execution.execution_id}, step {execution.step_id}"
        _late(evidence, verdict, which, due, evidence.ledger.now)


def _passed(step: Json, entered: datetime, left: datetime, reason: str | None, happened: list[Event]) -> Iterable[str]:
    if (least := _duration(step)) is not None and left - entered < least:
        yield f"waited {left - entered}, and had to {least}"
    wait = step.get("waitFor")
    if wait is None or reason != "timeout":
        return
    if "timeout" in wait and left - entered < span_of(wait["timeout"]):
        yield f"gave up after {left - entered}, and had {wait['timeout']}"
    came = _came(step, entered, [event for event in happened if event.received_at + COMMITTED < left])
    if came is not None:
        yield f"gave up at {left}, and {wait['event']['eventName']} had come at {came}"


def _duration(step: Json) -> timedelta | None:
    text = step.get("wait", {}).get("duration")
    return span_of(text) if text is not None else None


def _due(step: Json, entered: datetime, reason: str | None, happened: list[Event]) -> datetime | None:
    """When it was to go on that went on so; None: the evidence does not say."""
    if (duration := _duration(step)) is not None:
        return entered + duration
    wait = step.get("waitFor")
    if wait is None:
        return None
    if reason == "timeout" or (reason is None and "timeout" in wait):
        return entered + span_of(wait["timeout"]) if "timeout" in wait else None
    return _came(step, entered, happened)


def _came(step: Json, entered: datetime, happened: list[Event]) -> datetime | None:
    """When the first event came in, after the arrival, that it waits for by its name alone."""
    asked = step.get("waitFor", {}).get("event")
    if asked is None or asked.keys() - {"eventName", "after"}:
        return None
    return min(
        (e.received_at for e in happened if e.name == asked["eventName"] and e.occurred_at > entered), default=None
    )


def _late(evidence: Evidence, verdict: Verdict, which: str, due: datetime, left: datetime) -> None:
    away = timedelta(0)
    for outage in evidence.outages:
        # One that ended a moment ago may hold something up that came due just after.
        away += max(min(outage.ended, left) - max(outage.began, due - evidence.patience), timedelta(0))
    if left - due > away + evidence.patience:
        verdict.find(which, f"was due {due}, and had not gone on until {left}: {left - due - away} too late")
