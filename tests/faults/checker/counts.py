"""I6: every number that is told is the number of the rows that it is about."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.faults.checker.evidence import Evidence, Json
from tests.faults.checker.verdicts import Verdict
from tests.faults.checker.ways import behind, sent_away, steps_of, visits_of


def counts_add_up(evidence: Evidence, verdict: Verdict) -> None:
    """I6: enrolled = held out + active + each outcome; entered = left + standing there, at each step; what is counted
    of events is how many there are; and the API tells the same.
    """
    _journeys(evidence, verdict)
    _steps(evidence, verdict)
    for counted in evidence.ledger.counted:
        verdict.look()
        if not counted.state == counted.days == counted.events:
            verdict.find(
                f"subject number {counted.subject_no} of {counted.project}, event {counted.name}",
                f"{counted.events} events, counted as {counted.state}, and by days as {counted.days}",
            )


def _journeys(evidence: Evidence, verdict: Verdict) -> None:
    ledger = evidence.ledger
    enrolled = Counter((a.project, a.journey_id) for a in ledger.admissions)
    held_out = Counter((a.project, a.journey_id) for a in ledger.admissions if a.held_out)
    outcomes: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for execution in ledger.executions:
        outcomes[execution.project, execution.journey_id][execution.outcome or ""] += 1
    for journey in enrolled.keys() | outcomes.keys():
        verdict.look()
        total = held_out[journey] + outcomes[journey].total()
        if enrolled[journey] != total:
            verdict.find(
                f"journey {journey[1]} of {journey[0]}", f"{enrolled[journey]} enrolled, {total} accounted for"
            )
    for journey, funnel in evidence.funnels.items():
        verdict.look()
        found = dict(outcomes[journey])
        recount = {
            "enrolled": enrolled[journey] - held_out[journey],
            "heldOut": held_out[journey],
            "active": found.pop("", 0),
            "completed": found,
        }
        told = {
            "enrolled": int(funnel.get("enrolled", 0)),
            "heldOut": int(funnel.get("heldOut", 0)),
            "active": int(funnel.get("active", 0)),
            "completed": {name: int(count) for name, count in funnel.get("completed", {}).items()},
        }
        if told != recount:
            verdict.find(f"funnel of {journey[1]} of {journey[0]}", f"tells {told}, and the rows {recount}")


def _steps(evidence: Evidence, verdict: Verdict) -> None:
    """Of executions that stay on the version by which they came in."""
    ledger = evidence.ledger
    visits = visits_of(ledger.visits)
    entered: Counter[tuple[str, str, str]] = Counter()
    left: Counter[tuple[str, str, str]] = Counter()
    standing: Counter[tuple[str, str, str]] = Counter()
    passed: Counter[tuple[str, str, str, str]] = Counter()
    for execution in ledger.executions:
        definition: Json = ledger.versions.get((execution.project, execution.journey_id, execution.version))
        own = visits.get(execution.execution_id, [])
        for visit in own:
            passed[execution.project, execution.journey_id, visit.step_id, visit.result] += 1
        if definition is None or any(visit.version != execution.version for visit in own):
            continue
        steps = steps_of(definition)
        place = (execution.project, execution.journey_id)
        at: str | None = next(iter(steps))
        for visit in own:
            entered[*place, at or ""] += 1
            left[*place, visit.step_id] += 1
            at = behind(steps[visit.step_id], visit) if visit.step_id in steps else None
        last = own[-1] if own else None
        if (last is not None and last.step_kind == "exit") or sent_away(execution, last):
            continue
        entered[*place, at or ""] += 1
        standing[*place, execution.step_id] += 1
    for at_step in entered.keys() | left.keys() | standing.keys():
        verdict.look()
        if entered[at_step] != left[at_step] + standing[at_step]:
            verdict.find(
                f"step {at_step[2]} of {at_step[1]} of {at_step[0]}",
                f"{entered[at_step]} have come to it, {left[at_step]} have left it, {standing[at_step]} stand there",
            )
    for (project, journey), funnel in evidence.funnels.items():
        for step in funnel.get("steps", ()):
            verdict.look()
            for result in ("executed", "skipped", "failed"):
                told, found = int(step.get(result, 0)), passed[project, journey, step["stepId"], result]
                if told != found:
                    verdict.find(f"step {step['stepId']} of {journey}", f"{result} told {told}, and {found} visits")
