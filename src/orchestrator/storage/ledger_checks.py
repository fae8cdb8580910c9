"""What the ledgers must say of one another. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check

_SETTLED_WITHOUT_VISIT = """
SELECT format('execution %s, seq %s: %s', s.execution_id, s.seq, s.state) AS example
  FROM sends AS s
  LEFT JOIN executions AS e USING (project_no, bucket, subject_no, execution_id)
 WHERE s.project_no = $2 AND s.bucket >= $3 AND s.bucket < $4
   AND s.settled_at < $1::timestamptz - interval '60 seconds'
   -- Who ends an execution in Temporal while it sends, ends it before the visit; so does who has its subject forgotten.
   AND coalesce(e.reason, '') NOT LIKE 'temporal\\_%' AND e.outcome IS DISTINCT FROM 'forgotten'
   AND NOT EXISTS (SELECT FROM visits AS v
                    WHERE (v.project_no, v.bucket, v.subject_no, v.execution_id)
                        = (s.project_no, s.bucket, s.subject_no, s.execution_id)
                      AND v.seq = s.seq + 1 AND v.step_id = s.step_id)
"""

_VISIT_WITHOUT_SEND = """
SELECT format('execution %s, seq %s, step %s', v.execution_id, v.seq, v.step_id) AS example
  FROM visits AS v
 WHERE v.project_no = $2 AND v.bucket >= $3 AND v.bucket < $4
   AND v.step_kind = 'send' AND v.result IN ('executed', 'failed')
   AND NOT EXISTS (SELECT FROM sends AS s
                    WHERE (s.project_no, s.bucket, s.subject_no, s.execution_id)
                        = (v.project_no, v.bucket, v.subject_no, v.execution_id)
                      AND s.seq = v.seq - 1 AND s.step_id = v.step_id)
"""

_SEND_UNLIKE_VISIT = """
SELECT format('execution %s, seq %s: %s, but %s', s.execution_id, s.seq, s.state, v.result) AS example
  FROM sends AS s
  JOIN visits AS v USING (project_no, bucket, subject_no, execution_id)
 WHERE s.project_no = $2 AND s.bucket >= $3 AND s.bucket < $4
   AND v.seq = s.seq + 1 AND v.step_id = s.step_id
   AND v.result <> CASE WHEN s.state = 'failed' AND s.reason = 'withdrawn' THEN 'skipped'
                        WHEN s.state = 'failed' THEN 'failed' ELSE 'executed' END
"""

_CALL_UNLIKE_VISIT = """
SELECT format('execution %s, seq %s: %s, but %s', c.execution_id, c.seq, c.state, coalesce(v.result, 'no visit'))
       AS example
  FROM webhook_calls AS c
  LEFT JOIN executions AS e USING (project_no, bucket, subject_no, execution_id)
  LEFT JOIN visits AS v
    ON (v.project_no, v.bucket, v.subject_no, v.execution_id)
     = (c.project_no, c.bucket, c.subject_no, c.execution_id)
   AND v.seq = c.seq + 1 AND v.step_id = c.step_id
 WHERE c.project_no = $2 AND c.bucket >= $3 AND c.bucket < $4
   AND c.settled_at < $1::timestamptz - interval '60 seconds'
   AND coalesce(e.reason, '') NOT LIKE 'temporal\\_%' AND e.outcome IS DISTINCT FROM 'forgotten'
   AND v.result IS DISTINCT FROM CASE WHEN c.reason = 'withdrawn' THEN 'skipped'
                                      WHEN c.state = 'failed' THEN 'failed' ELSE 'executed' END
"""

_VISIT_WITHOUT_CALL = """
SELECT format('execution %s, seq %s, step %s', v.execution_id, v.seq, v.step_id) AS example
  FROM visits AS v
 WHERE v.project_no = $2 AND v.bucket >= $3 AND v.bucket < $4
   AND v.step_kind = 'webhook' AND v.reason IS DISTINCT FROM 'already_sent'
   AND NOT EXISTS (SELECT FROM webhook_calls AS c
                    WHERE (c.project_no, c.bucket, c.subject_no, c.execution_id)
                        = (v.project_no, v.bucket, v.subject_no, v.execution_id)
                      AND c.seq = v.seq - 1 AND c.step_id = v.step_id)
"""

# A visit may rest on a choice that an earlier execution made.
_CHOICE_UNLIKE_VISIT = """
SELECT format('execution %s, seq %s, step %s: arm %s', v.execution_id, v.seq, v.step_id, v.reason) AS example
  FROM visits AS v
 WHERE v.project_no = $2 AND v.bucket >= $3 AND v.bucket < $4
   AND v.step_kind IN ('adaptive_branch', 'nba_decision')
   AND NOT EXISTS (SELECT FROM arm_choices AS a
                    WHERE (a.project_no, a.bucket, a.subject_no, a.journey_id, a.step_id, a.arm_id)
                        = (v.project_no, v.bucket, v.subject_no, v.journey_id, v.step_id, v.reason))
UNION ALL
SELECT format('execution %s, seq %s, step %s: arm %s, and no visit', a.execution_id, a.seq, a.step_id, a.arm_id)
  FROM arm_choices AS a
 WHERE a.project_no = $2 AND a.bucket >= $3 AND a.bucket < $4
   AND NOT EXISTS (SELECT FROM visits AS v
                    WHERE (v.project_no, v.bucket, v.subject_no, v.execution_id)
                        = (a.project_no, a.bucket, a.subject_no, a.execution_id)
                      AND v.seq = a.seq + 1 AND v.step_id = a.step_id AND v.reason = a.arm_id)
"""

_COMPLETED_WITHOUT_EXIT = """
SELECT format('execution %s', e.execution_id) AS example
  FROM executions AS e
 WHERE e.project_no = $2 AND e.bucket >= $3 AND e.bucket < $4 AND e.outcome = 'completed'
   AND NOT EXISTS (SELECT FROM visits AS v
                    WHERE (v.project_no, v.bucket, v.subject_no, v.execution_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id)
                      AND v.seq = e.seq AND v.step_kind = 'exit')
"""

_ENROLLED_WITHOUT_EXECUTION = """
SELECT format('enrollment %s', n.enrollment_id) AS example
  FROM enrollments AS n
 WHERE n.project_no = $2 AND n.bucket >= $3 AND n.bucket < $4 AND n.held_out_by IS NULL
   AND NOT EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = (n.project_no, n.bucket, n.subject_no, n.enrollment_id))
UNION ALL
SELECT format('execution %s', e.execution_id)
  FROM executions AS e
 WHERE e.project_no = $2 AND e.bucket >= $3 AND e.bucket < $4
   AND NOT EXISTS (SELECT FROM enrollments AS n
                    WHERE (n.project_no, n.bucket, n.subject_no, n.enrollment_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id))
"""

# Of events that came in a minute ago and more, to subjects of whom nothing waits any more.
_UNCREDITED = """
SELECT format('enrollment %s', n.enrollment_id) AS example
  FROM enrollments AS n
  JOIN journey_goals AS g
    ON g.project_no = n.project_no AND g.journey_id = n.journey_id AND g.goal_revision = n.goal_revision
  JOIN event_names AS t ON t.project_no = n.project_no AND t.name = g.event_name
  JOIN subject_event_state AS s
    ON s.project_no = n.project_no AND s.bucket = n.bucket AND s.subject_no = n.subject_no AND s.name_no = t.name_no
   AND s.last_at > n.triggered_at
 CROSS JOIN LATERAL (
       SELECT min(e.occurred_at) AS occurred_at
         FROM events AS e
        WHERE e.project_no = n.project_no AND e.bucket = n.bucket AND e.subject_no = n.subject_no
          AND e.name_no = t.name_no AND e.occurred_at > n.triggered_at
          AND e.occurred_at <= n.triggered_at + g.goal_window
          AND e.received_at < $1::timestamptz - interval '60 seconds') AS first
 WHERE n.project_no = $2 AND n.bucket >= $3 AND n.bucket < $4
   AND NOT EXISTS (SELECT FROM conversions AS c
                    WHERE (c.project_no, c.bucket, c.subject_no, c.enrollment_id, c.step_id)
                        = (n.project_no, n.bucket, n.subject_no, n.enrollment_id, '')
                      AND c.occurred_at <= first.occurred_at)
   AND first.occurred_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM inbox AS i
                    WHERE (i.project_no, i.bucket, i.subject_no) = (n.project_no, n.bucket, n.subject_no))
"""

_MISCOUNTED = """
WITH sample AS (
    SELECT * FROM (
        SELECT * FROM subject_event_state WHERE project_no = $2 AND bucket >= $5 AND bucket < $4
        UNION ALL
        SELECT * FROM subject_event_state WHERE project_no = $2 AND bucket >= $3 AND bucket < $5
    ) AS chunk LIMIT 250
)
SELECT format('project %s, subject number %s, event number %s', k.project_no, k.subject_no, k.name_no) AS example
  FROM sample AS k
  LEFT JOIN event_horizons AS h ON h.project_no = k.project_no
  LEFT JOIN subject_event_state AS every
    ON (every.project_no, every.bucket, every.subject_no, every.name_no) = (k.project_no, k.bucket, k.subject_no, 0)
 CROSS JOIN LATERAL (
    SELECT sum(s.total) AS total, min(s.first_at) AS first_at, max(s.last_at) AS last_at
      FROM subject_event_state AS s
      JOIN event_names AS n ON n.project_no = s.project_no AND n.name_no = s.name_no
     WHERE (s.project_no, s.bucket, s.subject_no) = (k.project_no, k.bucket, k.subject_no)
 ) AS names
 CROSS JOIN LATERAL (
    SELECT count(*) AS total, min(e.occurred_at) AS first_at, max(e.occurred_at) AS last_at
      FROM events AS e
     WHERE (e.project_no, e.bucket, e.subject_no, e.name_no) = (k.project_no, k.bucket, k.subject_no, k.name_no)
       AND e.occurred_at >= coalesce(h.kept_from, '-infinity')
 ) AS e
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(d.total), 0) AS total, min(d.first_at) AS first_at, max(d.last_at) AS last_at
      FROM subject_event_days AS d
     WHERE (d.project_no, d.bucket, d.subject_no, d.name_no) = (k.project_no, k.bucket, k.subject_no, k.name_no)
       AND d.day >= coalesce((h.kept_from AT TIME ZONE 'UTC')::date, '-infinity')
 ) AS d
 WHERE (every.total, every.first_at, every.last_at) IS DISTINCT FROM (names.total, names.first_at, names.last_at)
    OR k.name_no <> 0 AND (
        (e.total, e.first_at, e.last_at) IS DISTINCT FROM (d.total, d.first_at, d.last_at)
        -- Of what was removed only the state is left.
        OR CASE WHEN h.kept_from IS NULL
                THEN (k.total, k.first_at, k.last_at) IS DISTINCT FROM (e.total, e.first_at, e.last_at)
                ELSE k.total < e.total OR k.first_at > e.first_at OR k.last_at <> e.last_at END)
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="sends_without_visit",
        remedy="The ledger of sends has more than that of visits: report it, with the workers' logs of that execution.",
        sql=_SETTLED_WITHOUT_VISIT,
        divided=True,
    ),
    Check(
        name="visits_without_send",
        remedy="A send step was passed and the ledger of sends does not know: report it, with the workers' logs.",
        sql=_VISIT_WITHOUT_SEND,
        divided=True,
    ),
    Check(
        name="sends_unlike_visits",
        remedy="The two ledgers tell different things of one send: report it, with the workers' logs.",
        sql=_SEND_UNLIKE_VISIT,
        divided=True,
    ),
    Check(
        name="calls_unlike_visits",
        remedy="The ledger of webhook calls and that of visits tell different things: report it, with the workers' "
        "logs of that execution.",
        sql=_CALL_UNLIKE_VISIT,
        divided=True,
    ),
    Check(
        name="visits_without_call",
        remedy="A webhook step was passed and the ledger of calls does not know: report it, with the workers' logs.",
        sql=_VISIT_WITHOUT_CALL,
        divided=True,
    ),
    Check(
        name="choices_unlike_visits",
        remedy="The ledger of choices of arms and that of visits tell different things: report it, with the workers' "
        "logs of that execution.",
        sql=_CHOICE_UNLIKE_VISIT,
        divided=True,
    ),
    Check(
        name="completed_without_exit",
        remedy="Completed, but by no exit step: report it, with the workers' logs.",
        sql=_COMPLETED_WITHOUT_EXIT,
        divided=True,
    ),
    Check(
        name="enrollments_unlike_executions",
        remedy="Each admission has one execution, and none has two: somebody has changed rows by hand.",
        sql=_ENROLLED_WITHOUT_EXECUTION,
        divided=True,
    ),
    Check(
        name="goals_uncredited",
        remedy="These have converted and are not counted so: workers of an older release have looked at the events. An "
        "event that is backfilled for a subject has all of its events credited anew.",
        sql=_UNCREDITED,
        divided=True,
    ),
    Check(
        name="events_miscounted",
        remedy="The counts of a subject's events differ from its events: predicates on them are wrong. Report it.",
        sql=_MISCOUNTED,
        sampled=True,
        divided=True,
    ),
)
