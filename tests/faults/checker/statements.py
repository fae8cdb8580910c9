"""The rows that are evidence, each kind in one statement. All are read in one transaction, of one instant."""

from __future__ import annotations

ADMISSIONS = """
SELECT p.project_id AS project, n.subject_no, s.subject_id, n.enrollment_id::text, n.journey_id, n.version, n.entry_key,
       n.held_out_by IS NOT NULL AS held_out
  FROM enrollments AS n
  JOIN projects AS p USING (project_no)
  LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)
"""

EXECUTIONS = """
SELECT p.project_id AS project, e.subject_no, s.subject_id, e.execution_id::text, e.journey_id, e.version,
       e.workflow_id, e.seq, e.step_id, e.since, coalesce(e.effect ->> 'kind', '') AS effect, e.wakes_at, e.parked,
       e.outcome, e.reason, e.started_at, e.ended_at
  FROM executions AS e
  JOIN projects AS p USING (project_no)
  LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)
"""

VISITS = """
SELECT execution_id::text, seq, place, step_id, step_kind, version, result, reason, entered_at, left_at FROM visits
"""

# The key as docs/channels.md has it.
_KEY = "encode(sha256(convert_to(l.execution_id || '/' || l.seq, 'UTF8')), 'hex') AS key"

SENDS = f"""
SELECT p.project_id AS project, s.subject_id, l.execution_id::text, l.seq, l.step_id, l.channel, l.category, l.state,
       l.reason, l.attempt, l.reserved_at, l.settled_at, {_KEY}
  FROM sends AS l
  JOIN projects AS p USING (project_no)
  LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)
UNION ALL
SELECT p.project_id, s.subject_id, l.execution_id::text, l.seq, l.step_id, '', '',
       CASE l.state WHEN 'answered' THEN 'sent' WHEN 'calling' THEN 'dispatching'
                    ELSE CASE WHEN l.in_doubt THEN 'unknown' ELSE 'failed' END END,
       l.reason, l.attempt, l.reserved_at, l.settled_at, {_KEY}
  FROM webhook_calls AS l
  JOIN projects AS p USING (project_no)
  LEFT JOIN subjects AS s USING (project_no, bucket, subject_no)
"""

# Without the copies that are counted as events of a kind.
EVENTS = """
SELECT p.project_id AS project, e.subject_no, e.event_id, n.name, e.occurred_at, e.received_at
  FROM events AS e
  JOIN projects AS p USING (project_no)
  JOIN event_names AS n USING (project_no, name_no)
"""

COUNTED = """
SELECT p.project_id AS project, c.subject_no, n.name, sum(c.state)::bigint AS state, sum(c.days)::bigint AS days,
       sum(c.events)::bigint AS events
  FROM (SELECT project_no, subject_no, name_no, total AS state, 0 AS days, 0 AS events FROM subject_event_state
         UNION ALL
        SELECT project_no, subject_no, name_no, 0, total, 0 FROM subject_event_days
         UNION ALL
        SELECT project_no, subject_no, name_no, 0, 0, 1 FROM events) AS c
  JOIN projects AS p USING (project_no)
  JOIN event_names AS n USING (project_no, name_no)
 GROUP BY p.project_id, c.subject_no, n.name
"""

VERSIONS = """
SELECT p.project_id, v.journey_id, v.version, v.definition
  FROM journey_versions AS v JOIN projects AS p USING (project_no)
"""

# Of who was written once.
ATTRIBUTES = "SELECT subject_no, attributes FROM subjects WHERE revision = 1"

CHOSEN = "SELECT execution_id::text, seq, step_id, arm_id FROM arm_choices"

CAPS = """
SELECT project_id, settings -> 'frequencyCaps' AS caps FROM projects
 WHERE jsonb_typeof(settings -> 'frequencyCaps') = 'array'
"""

AUDITED = """
SELECT coalesce(p.project_id, 'operator') AS project,
       format('%s %s/%s', a.action, a.resource_kind, a.resource_id) AS what, count(*) AS entries
  FROM audit_log AS a LEFT JOIN projects AS p USING (project_no)
 GROUP BY 1, 2
"""

#: What is empty when nothing is left to do, and a condition where some rows may stay.
WAITING = {
    "inbox": "true",
    "inbox_dead": "true",
    "outbox": "true",
    "outbox_dead": "true",
    "journey_closings": "true",
    "topic_pokes": "true",
    "waiting_sends": "true",
    "idempotency": "response IS NULL AND erased_at IS NULL",
    "cancellations": "ended_at IS NULL",
    "carries": "ended_at IS NULL",
    "entry_replays": "ended_at IS NULL",
    "erasures": "ended_at IS NULL",
    "enrollment_jobs": "state = 'running'",
    "journey_schedules": "told_revision < revision",
    "derived_events": "ready_at IS NULL",
    "segment_runs": "status <> 'done'",
}

# Every table that names a subject, or an execution; partitions are reached by their parents.
NAMING = """
SELECT c.relname::text AS table, a.attname::text AS named
  FROM pg_class AS c
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname IN ('subject_no', 'execution_id') AND NOT a.attisdropped
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
   AND c.relname NOT IN ('subjects', 'executions')
   AND EXISTS (SELECT FROM pg_attribute AS p
                WHERE p.attrelid = c.oid AND p.attname = 'project_no' AND NOT p.attisdropped)
UNION ALL
SELECT 'executions', 'subject_no'
"""


def strays(table: str, named: str) -> str:
    """How many rows of a table name a subject, or an execution, of another project. Numbers of subjects are given out
    once for all projects, and ids of executions are not given twice.
    """
    owner = "subjects" if named == "subject_no" else "executions"
    return f"""
        SELECT count(*) FROM {table} AS t JOIN {owner} AS o USING ({named}) WHERE o.project_no <> t.project_no
    """
