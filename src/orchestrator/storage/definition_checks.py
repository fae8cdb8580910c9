"""What definitions and ledgers name must be there. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check
from orchestrator.storage.journeys import TRIGGER_SEGMENT

_VERSION_GONE = """
SELECT format('execution %s: journey %s v%s', e.execution_id, e.journey_id, e.version) AS example
  FROM executions AS e
 WHERE e.project_no = $2 AND e.bucket >= $3 AND e.bucket < $4
   AND NOT EXISTS (SELECT FROM journey_versions AS v
                    WHERE (v.project_no, v.journey_id, v.version) = (e.project_no, e.journey_id, e.version))
UNION ALL
SELECT format('enrollment %s: journey %s v%s', n.enrollment_id, n.journey_id, n.version)
  FROM enrollments AS n
 WHERE n.project_no = $2 AND n.bucket >= $3 AND n.bucket < $4
   AND NOT EXISTS (SELECT FROM journey_versions AS v
                    WHERE (v.project_no, v.journey_id, v.version) = (n.project_no, n.journey_id, n.version))
"""

_CONTENT_GONE = """
SELECT format('execution %s: communication %s revision %s', s.execution_id, s.communication_id, s.content_revision)
       AS example
  FROM sends AS s
 WHERE s.project_no = $2 AND s.bucket >= $3 AND s.bucket < $4
   AND NOT EXISTS (SELECT FROM communication_revisions AS r
                    WHERE (r.project_no, r.communication_id, r.content_revision)
                        = (s.project_no, s.communication_id, s.content_revision))
"""

_PINNED_GONE = """
SELECT format('journey %s v%s: communication %s revision %s', v.journey_id, v.version, p.key,
              p.value ->> 'content_revision') AS example
  FROM journey_versions AS v, jsonb_each(v.pinned) AS p
 WHERE NOT EXISTS (SELECT FROM communication_revisions AS r
                    WHERE r.project_no = v.project_no AND r.communication_id = p.key
                      AND r.content_revision = (p.value ->> 'content_revision')::int)
UNION ALL
SELECT format('journey %s: newest version %s', j.journey_id, j.latest_version)
  FROM journeys AS j
 WHERE j.latest_version IS NOT NULL
   AND NOT EXISTS (SELECT FROM journey_versions AS v
                    WHERE (v.project_no, v.journey_id, v.version) = (j.project_no, j.journey_id, j.latest_version))
UNION ALL
SELECT format('communication %s: newest revision %s', c.communication_id, c.content_revision)
  FROM communications AS c
 WHERE NOT EXISTS (SELECT FROM communication_revisions AS r
                    WHERE (r.project_no, r.communication_id, r.content_revision)
                        = (c.project_no, c.communication_id, c.content_revision))
"""

_WITHOUT_SEGMENT = f"""
SELECT format('project %s, journey %s: segment %s, by %s', j.project_no, j.journey_id, {TRIGGER_SEGMENT},
              coalesce('the trigger contract ' || t.trigger_contract_id, 'its entry condition')) AS example
  FROM journeys AS j
  JOIN journey_versions AS v
    ON v.project_no = j.project_no AND v.journey_id = j.journey_id AND v.version = j.latest_version
  LEFT JOIN trigger_contracts AS t
    ON t.project_no = j.project_no AND t.trigger_contract_id = v.definition ->> 'triggerContractId'
 WHERE j.status = 'active' AND {TRIGGER_SEGMENT} IS NOT NULL
   AND NOT EXISTS (SELECT FROM segments AS s
                    WHERE s.project_no = j.project_no AND s.segment_id = {TRIGGER_SEGMENT})
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="versions_gone",
        remedy="These travel on a version that is not there; they cannot go on. Restore it from a backup.",
        sql=_VERSION_GONE,
        divided=True,
    ),
    Check(
        name="contents_gone",
        remedy="What was sent can no longer be shown. Restore the revision from a backup.",
        sql=_CONTENT_GONE,
        divided=True,
    ),
    Check(
        name="definitions_dangling",
        remedy="They name something that is not there. Restore it from a backup, or publish anew.",
        sql=_PINNED_GONE,
    ),
    Check(
        name="journeys_without_segment",
        remedy="They are active, and the segment is gone that starts their executions: make one of that id again, let "
        "their trigger name another, or pause them.",
        sql=_WITHOUT_SEGMENT,
    ),
)
