"""What must hold of stored membership, and for how long it may lag. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check

# One snapshot: sizes and membership change together.
_SIZES = """
WITH members AS (
    SELECT project_no, segment_no, count(*) AS members
      FROM (SELECT project_no, unnest(segment_nos) AS segment_no FROM subject_segments
             UNION ALL
            SELECT project_no, segment_no FROM static_members) AS member
     GROUP BY project_no, segment_no
), counted AS (
    SELECT project_no, segment_no, sum(delta) AS counted FROM segment_sizes GROUP BY project_no, segment_no
)
SELECT format('segment %s: %s members, counted as %s', s.segment_id, coalesce(m.members, 0), coalesce(c.counted, 0))
       AS example
  FROM segments AS s
  LEFT JOIN members AS m USING (project_no, segment_no)
  LEFT JOIN counted AS c USING (project_no, segment_no)
 WHERE coalesce(m.members, 0) <> coalesce(c.counted, 0)
"""

_OVERDUE = """
SELECT format('project %s, subject number %s, due %s', project_no, subject_no, next_due) AS example
  FROM subject_segments WHERE next_due < $1::timestamptz - interval '60 seconds'
"""

_RUNS_OPEN = """
SELECT format('project %s, run %s: %s, %s since %s', project_no, run_no, kind, status, requested_at) AS example
  FROM segment_runs WHERE status <> 'done' AND requested_at < $1::timestamptz - interval '30 minutes'
"""

_BUILDING = """
SELECT format('segment %s', segment_id) AS example
  FROM segments
 WHERE predicate IS NOT NULL AND built_revision IS DISTINCT FROM rules_revision
   AND updated_at < $1::timestamptz - interval '30 minutes'
"""

# Each dynamic segment that names a segment which is not there.
_BROKEN = """
SELECT format('segment %s: there is no segment %s', s.segment_id, named.id #>> '{}') AS example
  FROM segments AS s
 CROSS JOIN LATERAL jsonb_path_query(s.predicate, 'strict $.** ? (@.kind == "in_cohort").cohortId') AS named (id)
 WHERE s.predicate IS NOT NULL
   AND NOT EXISTS (SELECT FROM segments AS o WHERE o.project_no = s.project_no AND o.segment_id = named.id #>> '{}')
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="segment_sizes",
        remedy="The size that is shown is not the number of members: report it.",
        sql=_SIZES,
    ),
    Check(
        name="segments_overdue",
        remedy="A window of these subjects ran out a minute ago and nobody has looked: see that workers run.",
        sql=_OVERDUE,
    ),
    Check(
        name="segment_runs_open",
        remedy="Asked for half an hour ago and not done: see that workers run and Temporal answers.",
        sql=_RUNS_OPEN,
    ),
    Check(
        name="segments_building",
        remedy="Rules changed half an hour ago are not built: see segment_runs_open, and the workers' logs.",
        sql=_BUILDING,
    ),
    Check(
        name="segments_broken",
        remedy="Their rules name a segment that was deleted: they stay as they are until one of the two is mended.",
        sql=_BROKEN,
    ),
)
