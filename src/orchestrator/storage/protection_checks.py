"""What keeps projects apart, and the audit log from being changed. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check

# What keeps from being written twice what must be there once; names as migrations have them, or as Postgres makes them.
_CONSTRAINTS = """
SELECT format('%s on %s', wanted.name, wanted.guarded) AS example
  FROM (VALUES ('subjects', 'subjects_id_key'), ('event_ids', 'event_ids_pkey'),
               ('subject_event_state', 'subject_event_state_pkey'), ('subject_event_days', 'subject_event_days_pkey'),
               ('enrollments', 'enrollments_pkey'), ('enrollments', 'enrollments_entry_key'),
               ('executions', 'executions_pkey'), ('visits', 'visits_pkey'), ('sends', 'sends_pkey'),
               ('webhook_calls', 'webhook_calls_pkey'), ('arm_choices', 'arm_choices_pkey'),
               ('arm_choices', 'arm_choices_unit'), ('idempotency', 'idempotency_pkey'),
               ('journey_versions', 'journey_versions_pkey'), ('audit_seals', 'audit_seals_pkey'),
               ('audit_seals', 'audit_seals_entry_key')) AS wanted (guarded, name)
 WHERE NOT EXISTS (
       SELECT FROM pg_constraint AS c
        WHERE c.conrelid = to_regclass(wanted.guarded) AND c.conname = wanted.name AND c.contype IN ('p', 'u')
          AND c.convalidated)
"""

# Numbers of subjects are given out once for all projects. Of who was deleted none is left anywhere.
_OF_OTHERS = """
SELECT format('%s %s: subject number %s', l.ledger, l.id, l.subject_no) AS example
  FROM (SELECT 'enrollment' AS ledger, enrollment_id AS id, bucket, subject_no
          FROM enrollments WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
         UNION ALL
        SELECT 'execution', execution_id, bucket, subject_no
          FROM executions WHERE project_no = $2 AND bucket >= $3 AND bucket < $4) AS l
 WHERE NOT EXISTS (SELECT FROM subjects AS s
                    WHERE (s.project_no, s.bucket, s.subject_no) = ($2, l.bucket, l.subject_no))
   AND EXISTS (SELECT FROM projects AS p
                 JOIN subjects AS s ON s.project_no = p.project_no AND s.subject_no = l.subject_no)
"""

_AUDIT_UNSEALED = """
SELECT format('project %s, entry %s', project_no, audit_no) AS example
  FROM audit_unsealed WHERE written_at < $1::timestamptz - interval '60 seconds'
"""

# An anchor is told at the latest ten minutes after the one before.
_AUDIT_UNANCHORED = """
SELECT format('project %s, seal %s', p.project_no, s.seq) AS example
  FROM (SELECT project_no FROM projects UNION ALL SELECT 0) AS p
 CROSS JOIN LATERAL (
       SELECT min(seq) AS seq, min(sealed_at) AS sealed_at FROM audit_seals
        WHERE project_no = p.project_no
          AND seq > (SELECT coalesce(max(seq), 0) FROM audit_anchors WHERE project_no = p.project_no)) AS s
 WHERE s.sealed_at < $1::timestamptz - interval '15 minutes'
"""

_AUDIT_UNPROTECTED = """
SELECT format('%s on %s', wanted.trigger, wanted.guarded) AS example
  FROM (VALUES ('audit_log', 'append_only'), ('audit_log', 'queue_for_sealing'), ('audit_seals', 'append_only'),
               ('audit_anchors', 'append_only')) AS wanted (guarded, trigger)
 WHERE NOT EXISTS (
       SELECT FROM pg_trigger
        WHERE tgrelid = to_regclass(wanted.guarded) AND tgname = wanted.trigger AND tgenabled = 'A')
"""

# Partitions are reached through their parents, whose policies hold; so they need none as long as nobody may read them.
_UNGUARDED = """
SELECT c.relname::text AS example
  FROM pg_class AS c
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'project_no' AND NOT a.attisdropped
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT c.relrowsecurity
   AND (NOT c.relispartition OR has_table_privilege('orchestrator_api', c.oid, 'SELECT, INSERT, UPDATE, DELETE'))
UNION ALL
SELECT format('role %s', rolname)
  FROM pg_roles WHERE rolname = 'orchestrator_api' AND (rolsuper OR rolbypassrls)
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="constraints_missing",
        remedy="Nothing keeps these rows from being there twice any more: somebody has dropped a constraint. Stop "
        "servers and workers, remove what is there twice, and make it again as the migration that made it has it.",
        sql=_CONSTRAINTS,
    ),
    Check(
        name="rows_of_other_projects",
        remedy="A project has rows about a subject of another one: somebody has changed rows by hand, or restored a "
        "part of another database. Delete them, or restore from one backup.",
        sql=_OF_OTHERS,
        divided=True,
    ),
    Check(
        name="audit_unsealed_late",
        remedy="Entries of the audit log wait for their seal for a minute: see that workers run, and what they log. "
        "One that is gone before it was sealed waits for ever: run `orchestrator audit verify`.",
        sql=_AUDIT_UNSEALED,
    ),
    Check(
        name="audit_anchors_late",
        remedy="Seals of the audit log were not told outside of the database for a quarter of an hour: see that "
        "workers run and can write to ORCHESTRATOR_AUDIT_ANCHORS, and what they log.",
        sql=_AUDIT_UNANCHORED,
    ),
    Check(
        name="audit_log_unprotected",
        remedy="Somebody has taken away what keeps the audit log from being changed: run `orchestrator audit verify`, "
        "and ALTER TABLE … ENABLE ALWAYS TRIGGER ….",
        sql=_AUDIT_UNPROTECTED,
    ),
    Check(
        name="tables_unguarded",
        remedy="One project could read another's rows: run ALTER TABLE … ENABLE ROW LEVEL SECURITY, and take BYPASSRLS "
        "away.",
        sql=_UNGUARDED,
    ),
)
