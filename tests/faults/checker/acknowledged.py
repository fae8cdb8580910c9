"""I1: what was acknowledged took effect once, what nobody knows at most once, what was refused not at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.op_log import ENROLLMENT, EVENT, FAIL, FORGOTTEN, OK, VERSION, Effect, Op
from tests.faults.checker.verdicts import Verdict


def took_effect_once(evidence: Evidence, verdict: Verdict) -> None:
    """I1, of events, enrollments and published versions; and that a request, repeated, is answered the same."""
    gone = forgotten_subjects(evidence.ops)
    _count(evidence, verdict, gone)
    _answer(evidence.ops, verdict)
    _one_execution_each(evidence, verdict)
    _one_first_run_each(evidence, verdict)


def forgotten_subjects(ops: Iterable[Op]) -> set[tuple[str, str]]:
    """(project, subject) of those whom somebody asked to forget, whether or not that was heard."""
    return {(effect.project, effect.which) for op in ops for effect in op.does(FORGOTTEN)}


def _count(evidence: Evidence, verdict: Verdict, gone: set[tuple[str, str]]) -> None:
    happened: dict[str, Counter[tuple[str, str]]] = {
        EVENT: Counter((event.project, event.event_id) for event in evidence.ledger.events),
        ENROLLMENT: Counter((a.project, f"{a.journey_id}/{a.subject_id}") for a in evidence.ledger.admissions),
        VERSION: Counter((project, f"{journey}@{no}") for project, journey, no in evidence.ledger.versions),
    }
    told: defaultdict[Effect, set[str]] = defaultdict(set)
    for op in evidence.ops:
        for effect in op.does(*happened):
            told[effect].add(op.state)
    for effect, states in told.items():
        # Of who was forgotten events are gone, and ledgers do not say any more whose they are.
        subject = effect.which.partition("/")[2] if effect.kind == ENROLLMENT else effect.subject
        if (effect.project, subject) in gone:
            continue
        count = happened[effect.kind][effect.project, effect.which]
        verdict.look()
        if count > 1:
            verdict.find(effect, f"there {count} times, {_said(states)}")
        elif OK in states and count == 0:
            verdict.find(effect, "acknowledged, and not there")
        elif states == {FAIL} and count:
            verdict.find(effect, "refused, and there")


def _said(states: set[str]) -> str:
    return "acknowledged" if OK in states else "not acknowledged"


def _answer(ops: Iterable[Op], verdict: Verdict) -> None:
    answers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for op in ops:
        if op.request and op.state == OK:
            answers[op.project, op.request].add(op.answer)
    for (project, request), given in answers.items():
        verdict.look()
        if len(given) > 1:
            verdict.find(f"request {request} of {project}", f"was answered in {len(given)} ways")


def _one_execution_each(evidence: Evidence, verdict: Verdict) -> None:
    executions = Counter(execution.execution_id for execution in evidence.ledger.executions)
    admitted = Counter(a.enrollment_id for a in evidence.ledger.admissions if not a.held_out)
    for enrollment_id in executions.keys() | admitted.keys():
        verdict.look()
        if (executions[enrollment_id], admitted[enrollment_id]) != (1, 1):
            verdict.find(
                f"enrollment {enrollment_id}",
                f"{admitted[enrollment_id]} admissions and {executions[enrollment_id]} executions, not one of each",
            )


def _one_first_run_each(evidence: Evidence, verdict: Verdict) -> None:
    """However often a run is continued as a new one, all lead back to the first; a second start would be another."""
    firsts: defaultdict[str, set[str]] = defaultdict(set)
    for workflow in evidence.workflows:
        if workflow.execution_id is not None:
            firsts[workflow.execution_id].add(workflow.first_run_id)
    for execution_id, runs in firsts.items():
        verdict.look()
        if len(runs) > 1:
            verdict.find(f"execution {execution_id}", f"its workflow was started {len(runs)} times")
