"""I5: no wait ends early, and none ends late but by what was away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.core.oracle_json import Json, span_of
from tests.faults.checker.evidence import Event, Evidence, Execution, Visit
from tests.faults.checker.verdicts import Verdict
from tests.faults.checker.ways import COMMITTED, steps_of, visits_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """A wait that is over. `away`: for how long something was away meanwhile that it could have been waiting for."""

    which: str
    due: datetime
    left: datetime
    away: timedelta

    @property
    def late(self) -> timedelta:
        return self.left - self.due

    @property
    def excess(self) -> timedelta:
        """By how much it was late besides."""
        return max(self.late - self.away, timedelta(0))


def waited_as_long_as_it_had_to(evidence: Evidence, verdict: Verdict) -> None:
    """I5, of waits for a length of time, and of waits for events and their timeouts. Instants are the database's."""
    steps, happened = _steps(evidence), _happened(evidence)
    for execution, visit, step in _executed(evidence, steps):
        which, came = _which(execution, visit), happened[execution.subject_no]
        for fault in _passed(step, visit.entered_at, visit.left_at, visit.reason, came):
            verdict.find(which, fault)
        due = _due(step, visit.entered_at, visit.reason, came)
        if due is not None:
            verdict.look()
            _late(evidence, verdict, which, due, visit.left_at)
    for execution in evidence.ledger.executions:
        if execution.outcome is None and not execution.parked:
            _standing(evidence, verdict, execution, steps, happened[execution.subject_no])


def waits(evidence: Evidence) -> list[Waited]:
    """Every wait that is over and of which it is known when it had to be."""
    happened = _happened(evidence)
    found = []
    for execution, visit, step in _executed(evidence, _steps(evidence)):
        due = _due(step, visit.entered_at, visit.reason, happened[execution.subject_no])
        if due is not None:
            away = _away(evidence, due, visit.left_at)
            found.append(Waited(which=_which(execution, visit), due=due, left=visit.left_at, away=away))
    return found


def _steps(evidence: Evidence) -> Json:
    return {key: steps_of(definition) for key, definition in evidence.ledger.versions.items()}


def _happened(evidence: Evidence) -> defaultdict[int, list[Event]]:
    happened: defaultdict[int, list[Event]] = defaultdict(list)
    for event in evidence.ledger.events:
        happened[event.subject_no].append(event)
    return happened


def _executed(evidence: Evidence, steps: Json) -> Iterator[tuple[Execution, Visit, Json]]:
    visits = visits_of(evidence.ledger.visits)
    for execution in evidence.ledger.executions:
        for visit in visits.get(execution.execution_id, ()):
            step = steps.get((execution.project, execution.journey_id, visit.version), {}).get(visit.step_id)
            if step is not None and visit.result == "executed":
                yield execution, visit, step


def _which(execution: Execution, visit: Visit) -> str:
    return f"execution {execution.execution_id}, step {visit.step_id}"


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
    away = _away(evidence, due, left)
    if left - due > away + evidence.patience:
        verdict.find(which, f"was due {due}, and had not gone on until {left}: {left - due - away} too late")


def _away(evidence: Evidence, due: datetime, left: datetime) -> timedelta:
    away = timedelta(0)
    for outage in evidence.outages:
        # One that ended a moment ago may hold something up that came due just after.
        away += max(min(outage.ended, left) - max(outage.began, due - evidence.patience), timedelta(0))
    return away
