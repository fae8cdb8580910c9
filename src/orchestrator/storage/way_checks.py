"""What executions have passed must be a way through the version that they travel by. The queries are as doctor_check.py
has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check

# Every step of the project's versions, and where it can lead: what stands as `next` or `otherwise` anywhere in it. More
# may stand there than is a way (a webhook's body is the author's own), never less.
_STEPS = """
steps AS MATERIALIZED (
    SELECT v.journey_id, v.version, s.step ->> 'id' AS step_id, s.place = 1 AS is_first,
           ARRAY(SELECT to_id #>> '{}' FROM jsonb_path_query(s.step, 'strict $.**.next', '{}', true) AS to_id
                  UNION ALL
                 SELECT to_id #>> '{}' FROM jsonb_path_query(s.step, 'strict $.**.otherwise', '{}', true) AS to_id)
           AS ways
      FROM journey_versions AS v
     CROSS JOIN LATERAL jsonb_array_elements(v.definition -> 'steps') WITH ORDINALITY AS s (step, place)
     WHERE v.project_no = $2
)"""

# Who goes over to another version may come to another step. Whom a gate sends away ends on the step that he has passed.
_OFF_THE_WAY = f"""
WITH {_STEPS}, passed AS (
    SELECT execution_id, bucket, subject_no, journey_id, version, seq, place, step_id,
           row_number() OVER way = 1 AS is_first,
           lead(step_id) OVER way AS next_step, lead(version) OVER way AS next_version
      FROM visits
     WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
    WINDOW way AS (PARTITION BY bucket, subject_no, execution_id ORDER BY seq, place)
)
SELECT format('execution %s, seq %s, step %s', p.execution_id, p.seq, p.step_id) AS example
  FROM passed AS p
  LEFT JOIN steps AS s USING (journey_id, version, step_id)
  LEFT JOIN executions AS e
    ON (e.project_no, e.bucket, e.subject_no, e.execution_id) = ($2, p.bucket, p.subject_no, p.execution_id)
  LEFT JOIN enrollments AS n
    ON p.is_first
   AND (n.project_no, n.bucket, n.subject_no, n.enrollment_id) = ($2, p.bucket, p.subject_no, p.execution_id)
 WHERE s.step_id IS NULL
    OR p.is_first AND p.version = n.version AND NOT s.is_first
    OR p.next_version = p.version AND p.next_step <> ALL (s.ways)
    OR p.next_step IS NULL AND e.version = p.version AND e.step_id <> ALL (s.ways)
       AND NOT (e.outcome IS NOT NULL AND e.step_id = p.step_id)
"""

_WITHOUT_EXECUTION = """
SELECT format('%s: execution %s', l.ledger, l.execution_id) AS example
  FROM (SELECT 'visits' AS ledger, bucket, subject_no, execution_id
          FROM visits WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
         UNION ALL
        SELECT 'sends', bucket, subject_no, execution_id
          FROM sends WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
         UNION ALL
        SELECT 'calls', bucket, subject_no, execution_id
          FROM webhook_calls WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
         UNION ALL
        SELECT 'choices', bucket, subject_no, execution_id
          FROM arm_choices WHERE project_no = $2 AND bucket >= $3 AND bucket < $4) AS l
 WHERE NOT EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = ($2, l.bucket, l.subject_no, l.execution_id))
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="visits_off_the_way",
        remedy="They have passed steps that do not follow each other in their version, or stand where none of them "
        "leads: somebody has changed rows, or a version, by hand. Restore the version from a backup, or cancel them.",
        sql=_OFF_THE_WAY,
        divided=True,
    ),
    Check(
        name="ledgers_without_execution",
        remedy="A ledger tells of executions that their project does not have: somebody has changed rows by hand, or "
        "restored tables of different times. Restore all of them from one backup.",
        sql=_WITHOUT_EXECUTION,
        divided=True,
    ),
)
