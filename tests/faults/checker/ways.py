"""I4: where each execution went, beside the graph of the version that it travelled by.

A second reading of the definition's JSON, which shares no code with the product's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta

from tests.core.oracle_json import Json, at_path, inside, same
from tests.faults.checker.evidence import Event, Evidence, Execution, Visit
from tests.faults.checker.verdicts import Verdict

#: An event may be stored by a transaction that commits a moment after the instant that it gives to it.
COMMITTED = timedelta(seconds=2)

LEARNING = ("adaptiveBranch", "nbaDecision")


class CannotTell(Exception):
    """A question whose answer is not among the evidence."""


def went_the_way(evidence: Evidence, verdict: Verdict) -> None:
    """I4: visits follow each other as the graph says, and each arm that was taken is the one that had to be."""
    ledger = evidence.ledger
    visits = visits_of(ledger.visits)
    happened: defaultdict[int, list[Event]] = defaultdict(list)
    for event in ledger.events:
        happened[event.subject_no].append(event)
    came_by = {admission.enrollment_id: admission.version for admission in ledger.admissions}
    for execution in ledger.executions:
        passed = visits.pop(execution.execution_id, [])
        verdict.look()
        steps = {
            version: steps_of(ledger.versions[execution.project, execution.journey_id, version])
            for version in {execution.version, came_by.get(execution.execution_id, 0), *(v.version for v in passed)}
            if (execution.project, execution.journey_id, version) in ledger.versions
        }
        for fault in _faults(execution, passed, steps, came_by.get(execution.execution_id)):
            verdict.find(f"execution {execution.execution_id}", fault)
        for visit in passed:
            step = steps.get(visit.version, {}).get(visit.step_id)
            if step is None or visit.result != "executed":
                continue
            try:
                due = _arm(execution, visit, step, happened[execution.subject_no], evidence)
            except CannotTell:
                continue
            verdict.look()
            if visit.reason not in due:
                verdict.find(
                    f"execution {execution.execution_id}, step {visit.step_id}",
                    f"went by {visit.reason}, and had to by {' or '.join(sorted(due))}",
                )
    for execution_id in visits:
        verdict.find(f"execution {execution_id}", "has visits, and is not there")


def visits_of(visits: Iterable[Visit]) -> dict[str, list[Visit]]:
    """By execution, in their order."""
    grouped: defaultdict[str, list[Visit]] = defaultdict(list)
    for visit in visits:
        grouped[visit.execution_id].append(visit)
    for passed in grouped.values():
        passed.sort(key=lambda visit: (visit.seq, visit.place))
    return dict(grouped)


def steps_of(definition: Json) -> dict[str, Json]:
    """By their ids, in their order."""
    return {step["id"]: step for step in definition["steps"]}


def behind(step: Json, visit: Visit) -> str | None:
    """Where one goes on from a step that was passed so; None: nowhere."""
    if "exit" in step:
        return None
    if "waitFor" in step:
        wait = step["waitFor"]
        return str(step["next"] if visit.reason == "came" else wait.get("otherwise") or step["next"])
    if "branch" in step and visit.reason == "otherwise":
        return str(step["branch"]["otherwise"])
    for kind in ("branch", "split", *LEARNING):
        if kind in step:
            return next((str(arm["next"]) for arm in step[kind]["arms"] if arm["id"] == visit.reason), None)
    if "webhook" in step and visit.result != "executed" and visit.reason != "already_sent":
        return str(step["webhook"].get("otherwise") or step["next"])
    return str(step["next"])


def _faults(
    execution: Execution, visits: list[Visit], steps: Mapping[int, Mapping[str, Json]], came_by: int | None
) -> Iterable[str]:
    if came_by is None or not steps.get(execution.version):
        yield "the version that it travels by is not there"
        return
    version, at, since = came_by, next(iter(steps[came_by]), None), execution.started_at
    for visit in visits:
        if visit.step_id not in steps.get(visit.version, {}):
            yield f"passed {visit.step_id}, which version {visit.version} has not"
            return
        if visit.version == version:  # who goes over to another version may come to another step
            if visit.step_id != at:
                yield f"passed {visit.step_id}, and stood on {at}"
                return
            if visit.entered_at != since:
                yield f"came to {visit.step_id} at {visit.entered_at}, and left the one before at {since}"
        if visit.left_at < visit.entered_at:
            yield f"left {visit.step_id} before it came to it"
        version, since = visit.version, visit.left_at
        at = behind(steps[version][visit.step_id], visit)
    last = visits[-1] if visits else None
    if execution.outcome == "completed":
        if last is None or last.step_kind != "exit":
            yield "completed, and by no exit"
    elif execution.version == version and execution.step_id != at and not sent_away(execution, last):
        yield f"stands on {execution.step_id}, and should on {at}"


def sent_away(execution: Execution, last: Visit | None) -> bool:
    """Whether a gate has ended it: then it stands on the step that it has passed over."""
    return (
        last is not None
        and last.result == "skipped"
        and execution.outcome is not None
        and execution.step_id == last.step_id
    )


def _arm(execution: Execution, visit: Visit, step: Json, happened: list[Event], evidence: Evidence) -> set[str]:
    """The arms that it may have gone by. Raises CannotTell."""
    if "split" in step:
        if execution.subject_id is None:
            raise CannotTell
        return {_split(step, execution.journey_id, execution.subject_id)}
    if any(kind in step for kind in LEARNING):
        arm = evidence.ledger.chosen.get((execution.execution_id, visit.seq - 1, visit.step_id))
        if arm is None:  # an earlier execution's choice holds
            raise CannotTell
        return {arm}
    if "branch" in step:
        if execution.subject_id is None:  # whose events are gone with them
            raise CannotTell
        # What was stored at about the same time may have been seen or not.
        sure = [event for event in happened if event.received_at + COMMITTED < visit.left_at]
        perhaps = [event for event in happened if event.received_at <= visit.left_at]
        attributes = evidence.ledger.attributes.get(execution.subject_no)
        return {_branch(step, sure, attributes), _branch(step, perhaps, attributes)}
    raise CannotTell


def _split(step: Json, journey_id: str, subject_id: str) -> str:
    salt = step["split"].get("salt") or f"{journey_id}/{step['id']}"
    digest = hashlib.sha256(salt.encode() + b"\0" + subject_id.encode()).hexdigest()
    place = int(digest[:16], 16) * sum(arm["weight"] for arm in step["split"]["arms"])
    reached = 0
    for arm in step["split"]["arms"]:
        reached += arm["weight"]
        if place < reached * 2**64:
            return str(arm["id"])
    raise AssertionError("the last arm reaches to the end")


def _branch(step: Json, happened: list[Event], attributes: Json) -> str:
    names = [event.name for event in happened]
    taken = next((arm for arm in step["branch"]["arms"] if _holds(arm["when"], names, attributes)), None)
    return str(taken["id"]) if taken is not None else "otherwise"


def _holds(predicate: Json, names: list[str], attributes: Json) -> bool:
    """Of the language as much as can be told from which events came, and from attributes that nobody has changed."""
    if any(isinstance(part, dict) and ("window" in part or "where" in part) for part in inside(predicate)):
        raise CannotTell
    match predicate["kind"]:
        case "and":
            return all(_holds(clause, names, attributes) for clause in predicate["clauses"])
        case "or":
            return any(_holds(clause, names, attributes) for clause in predicate["clauses"])
        case "not":
            return not _holds(predicate["clause"], names, attributes)
        case "event_fired":
            return names.count(predicate["eventName"]) >= int(predicate.get("atLeast", 1))
        case "event_not_fired":
            return names.count(predicate["eventName"]) < int(predicate.get("atLeast", 1))
        case "attribute" if attributes is not None and not predicate["fieldPath"].startswith("$"):
            value = at_path(attributes, predicate["fieldPath"], None)
            match predicate["operator"]:
                case "exists":
                    return value is not None
                case "equals":
                    return value is not None and same(value, predicate["value"])
                case "not_equals":
                    return value is None or not same(value, predicate["value"])
    raise CannotTell
