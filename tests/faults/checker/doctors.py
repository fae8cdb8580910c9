"""What `orchestrator doctor` finds, by the invariant that it breaks: its checks are the same ones, for operators."""

from __future__ import annotations

from tests.faults.checker.evidence import Evidence
from tests.faults.checker.verdicts import Verdict

#: The invariant of each check. None is missing: a test says so.
BROKEN_BY = {
    "inbox_late": "I8",
    "inbox_dead": "I8",
    "outbox_late": "I8",
    "topic_pokes_late": "I8",
    "outbox_dead": "I8",
    "closings_late": "I8",
    "cancellations_late": "I8",
    "carries_late": "I8",
    "canceled_running": "I5",
    "entry_replays_late": "I8",
    "enrollment_jobs_late": "I8",
    "held_entries_late": "I8",
    "sends_waiting_late": "I8",
    "schedules_late": "I8",
    "erasures_late": "I10",
    "erasures_unwritten": "I10",
    "sends_dispatching": "I8",
    "executions_overdue": "I5",
    "sends_not_begun": "I5",
    "sends_without_visit": "I3",
    "visits_without_send": "I3",
    "sends_unlike_visits": "I3",
    "calls_unlike_visits": "I3",
    "visits_without_call": "I3",
    "choices_unlike_visits": "I4",
    "executions_deaf": "I5",
    "completed_without_exit": "I4",
    "enrollments_unlike_executions": "I1",
    "goals_uncredited": "I6",
    "versions_gone": "I4",
    "contents_gone": "I4",
    "definitions_dangling": "I4",
    "journeys_without_segment": "I4",
    "events_miscounted": "I6",
    "kinds_uncounted": "I8",
    "audit_unsealed_late": "I11",
    "audit_anchors_late": "I11",
    "audit_log_unprotected": "I11",
    "tables_unguarded": "I12",
    "constraints_missing": "I1",
    "rows_of_other_projects": "I12",
    "visits_off_the_way": "I4",
    "ledgers_without_execution": "I12",
    "calls_calling": "I8",
    "requests_half_answered": "I8",
    "segment_sizes": "I6",
    "segments_overdue": "I5",
    "segment_runs_open": "I8",
    "segments_building": "I8",
    "segments_broken": "I4",
    "predicates_unreadable": "I4",
    "audit_log_changed": "I11",
    "temporal_away": "I7",
    "executions_not_started": "I7",
    "executions_without_workflow": "I7",
    "workflows_without_execution": "I7",
    "payload_keys_missing": "I13",
}


def diagnosed(evidence: Evidence, verdict: Verdict) -> None:
    """What the doctor says of this verdict's invariant."""
    for diagnosis in evidence.diagnoses:
        if BROKEN_BY.get(diagnosis.check) != verdict.invariant:
            continue
        verdict.look()
        if diagnosis.total:
            verdict.find(f"doctor: {diagnosis.check}", f"{diagnosis.total}, such as {', '.join(diagnosis.examples)}")
