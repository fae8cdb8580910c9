"""What waits to be done, and for how long it may. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check
from orchestrator.storage.erasures import IS_UNWRITTEN

_INBOX_LATE = """
SELECT format('project %s, subject number %s', project_no, subject_no) AS example
  FROM inbox WHERE received_at < $1::timestamptz - interval '60 seconds'
"""

_INBOX_DEAD = """
SELECT format('inbox_dead %s: %s', inbox_no, error) AS example FROM inbox_dead
"""

_OUTBOX_LATE = """
SELECT format('outbox %s: %s %s', outbox_no, kind, coalesce(last_error, 'not tried')) AS example
  FROM outbox WHERE created_at < $1::timestamptz - interval '60 seconds'
"""

_OUTBOX_DEAD = """
SELECT format('outbox_dead %s: %s %s', outbox_no, kind, last_error) AS example FROM outbox_dead
"""

# Answers are written in the transaction that makes room for them.
_HALF_ANSWERED = """
SELECT format('project %s, %s at %s', project_no, method, created_at) AS example
  FROM idempotency WHERE response IS NULL AND erased_at IS NULL
"""

_CLOSINGS_LATE = """
SELECT format('project %s, journey %s', project_no, journey_id) AS example
  FROM journey_closings WHERE moved_at < $1::timestamptz - interval '5 minutes'
"""

_TOPIC_POKES_LATE = """
SELECT format('project %s: %s', project_no, array_to_string(topics, ', ')) AS example
  FROM topic_pokes WHERE moved_at < $1::timestamptz - interval '5 minutes'
"""

_CANCELLATIONS_LATE = """
SELECT format('project %s, cancellation %s: %s told', project_no, cancellation_id, canceled) AS example
  FROM cancellations WHERE ended_at IS NULL AND moved_at < $1::timestamptz - interval '5 minutes'
"""

_CARRIES_LATE = """
SELECT format('project %s, journey %s, version %s: %s told', project_no, journey_id, version, told) AS example
  FROM carries WHERE ended_at IS NULL AND moved_at < $1::timestamptz - interval '5 minutes'
"""

_REPLAYS_LATE = """
SELECT format('project %s, replay %s: %s looked at', project_no, entry_replay_id, looked_at) AS example
  FROM entry_replays WHERE ended_at IS NULL AND moved_at < $1::timestamptz - interval '5 minutes'
"""

_JOBS_LATE = """
SELECT format('project %s, enrollment job %s', project_no, enrollment_job_id) AS example
  FROM enrollment_jobs WHERE state = 'running' AND next_at < $1::timestamptz - interval '60 seconds'
"""

_HELD_LATE = """
SELECT format('project %s, subject number %s, journey %s', project_no, subject_no, journey_id) AS example
  FROM held_entries
 WHERE look_at < $1::timestamptz - interval '60 seconds'
    -- Nothing could be decided about it: it is left alone for a minute, again and again.
    OR look_at > $1 AND coalesce(grace_until, '-infinity') < $1::timestamptz - interval '60 seconds'
"""

_SENDS_WAITING_LATE = """
SELECT format('project %s, channel %s: %s wait, since %s', t.project_no, t.channel, w.waiting, w.since) AS example
  FROM channel_turns AS t
 CROSS JOIN LATERAL (
       SELECT count(*) AS waiting, min(since) AS since FROM waiting_sends
        WHERE project_no = t.project_no AND channel = t.channel) AS w
 WHERE greatest(t.used_to, t.closed_until, w.since) < $1::timestamptz - interval '60 seconds'
"""

_SCHEDULES_LATE = """
SELECT format('project %s, journey %s', project_no, journey_id) AS example
  FROM journey_schedules
 WHERE told_revision < revision AND changed_at < $1::timestamptz - interval '60 seconds'
"""

_ERASURES_LATE = """
SELECT format('project %s, erasure %s: %s since %s', project_no, erasure_id, phase, requested_at) AS example
  FROM erasures
 WHERE ended_at IS NULL AND requested_at < $1::timestamptz - interval '1 hour'
"""

_ERASURES_UNWRITTEN = f"""
SELECT format('project %s, erasure %s: %s', project_no, erasure_id,
              CASE WHEN lifted_at IS NULL THEN 'not written' ELSE 'lifted, not written' END) AS example
  FROM erasures
 WHERE {IS_UNWRITTEN} AND coalesce(lifted_at, requested_at) < $1::timestamptz - interval '5 minutes'
"""

_UNCOUNTED = """
SELECT format('project %s, event %s, kind number %s: %s of 256 buckets', d.project_no, n.name, d.name_no, d.bucket)
       AS example
  FROM derived_events AS d
  LEFT JOIN event_names AS n ON n.project_no = d.project_no AND n.name_no = d.base_no
 WHERE d.ready_at IS NULL AND d.leased_until < $1::timestamptz - interval '60 seconds'
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="inbox_late",
        remedy="Nobody has acted on these for a minute: see that workers run, and what they log.",
        sql=_INBOX_LATE,
    ),
    Check(
        name="inbox_dead",
        remedy="Ten tries have failed: find the error in the workers' logs. A row put back into inbox is tried again.",
        sql=_INBOX_DEAD,
    ),
    Check(
        name="outbox_late",
        remedy="Temporal was not told for a minute: see that it answers, and that workers run.",
        sql=_OUTBOX_LATE,
    ),
    Check(
        name="outbox_dead",
        remedy="Temporal refuses these for good: ID_TAKEN means that another database starts workflows in the same "
        "namespace.",
        sql=_OUTBOX_DEAD,
    ),
    Check(
        name="requests_half_answered",
        remedy="A request is noted without its answer, which cannot come of itself: somebody has changed rows by hand, "
        "or restored this table alone. Delete the row; then the request can be made again.",
        sql=_HALF_ANSWERED,
    ),
    Check(
        name="closings_late",
        remedy="Executions of these journeys have still to be told, and none was for five minutes: see that workers "
        "run, and what they log. While much waits in the outbox, they wait too.",
        sql=_CLOSINGS_LATE,
    ),
    Check(
        name="topic_pokes_late",
        remedy="Executions have still to be told what changed in their project, and none was for five minutes: see "
        "that workers run, and what they log. While much waits in the outbox, they wait too; and while a transaction "
        "from before is open.",
        sql=_TOPIC_POKES_LATE,
    ),
    Check(
        name="cancellations_late",
        remedy="The cancelling of executions has not moved for five minutes: see that workers run, and what they log. "
        "While much waits in the outbox, it waits too.",
        sql=_CANCELLATIONS_LATE,
    ),
    Check(
        name="carries_late",
        remedy="The carrying over of executions has not moved for five minutes: see that workers run, and what they "
        "log. While much waits in the outbox it waits, too, and so it does for transactions that were there before it.",
        sql=_CARRIES_LATE,
    ),
    Check(
        name="entry_replays_late",
        remedy="The replay of refused entries has not moved for five minutes: see that workers run, and what they log. "
        "While much waits in the outbox, it waits too.",
        sql=_REPLAYS_LATE,
    ),
    Check(
        name="enrollment_jobs_late",
        remedy="Nobody has worked on these jobs for a minute: see that workers run, and that Temporal is there, for "
        "which they wait while much has still to be told.",
        sql=_JOBS_LATE,
    ),
    Check(
        name="held_entries_late",
        remedy="Entries that were held were to be decided a minute ago: see that workers run, and what they log.",
        sql=_HELD_LATE,
    ),
    Check(
        name="sends_waiting_late",
        remedy="Sends wait for the turn of their channel, and nobody has had one for a minute: see that workers run, "
        "and that Temporal is there, for which they wait while much has still to be told.",
        sql=_SENDS_WAITING_LATE,
    ),
    Check(
        name="schedules_late",
        remedy="Temporal was not told of the schedules of these journeys for a minute: see that it answers, and that "
        "workers run.",
        sql=_SCHEDULES_LATE,
    ),
    Check(
        name="erasures_late",
        remedy="Somebody was forgotten an hour ago and not all is erased: see that Temporal answers, workers run, and "
        "they can write to their ledger; the workflow subject-erasure says at what it stands.",
        sql=_ERASURES_LATE,
    ),
    Check(
        name="erasures_unwritten",
        remedy="After a restore they would come back, or be erased though they were lifted: give workers a ledger of "
        "erasures that they can write to (ORCHESTRATOR_ERASURE_LEDGER). They write these down within seconds then.",
        sql=_ERASURES_UNWRITTEN,
    ),
    Check(
        name="kinds_uncounted",
        remedy="Events from before a `where` was saved are not counted yet, and for a minute nobody was at it: see "
        "that workers run, and what they log. Predicates are right meanwhile; segments wait.",
        sql=_UNCOUNTED,
    ),
)
