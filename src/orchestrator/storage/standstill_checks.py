"""Executions, sends and calls that should have gone on, and have not. The queries are as doctor_check.py has them."""

from __future__ import annotations

from orchestrator.storage.doctor_check import Check

_CANCELED_RUNNING = """
SELECT format('execution %s, step %s, told to end %s', execution_id, step_id, cancel_asked_at) AS example
  FROM executions
 WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
   AND outcome IS NULL AND cancel_asked_at < $1::timestamptz - interval '60 seconds'
"""

_DISPATCHING = """
SELECT format('execution %s, seq %s, channel %s, attempt %s', execution_id, seq, channel, attempt) AS example
  FROM sends AS s
 WHERE state = 'dispatching' AND reserved_at < $1::timestamptz - interval '5 minutes'
   -- Who is parked goes on with it when that is mended; of who was ended in Temporal, it is settled some minutes later.
   AND NOT EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = (s.project_no, s.bucket, s.subject_no, s.execution_id)
                      AND (e.outcome IS NULL AND e.parked IS NOT NULL
                           OR e.ended_at >= $1::timestamptz - interval '15 minutes'))
"""

_CALLING = """
SELECT format('execution %s, seq %s, step %s, attempt %s', execution_id, seq, step_id, attempt) AS example
  FROM webhook_calls AS c
 WHERE state = 'calling' AND coalesce(retry_at, reserved_at) < $1::timestamptz - interval '5 minutes'
   AND NOT EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = (c.project_no, c.bucket, c.subject_no, c.execution_id)
                      AND (e.outcome IS NULL AND e.parked IS NOT NULL
                           OR e.ended_at >= $1::timestamptz - interval '15 minutes'))
"""

_OVERDUE = """
SELECT format('execution %s, step %s, due %s', execution_id, step_id, wakes_at) AS example
  FROM executions
 WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
   AND outcome IS NULL AND wakes_at < $1::timestamptz - interval '60 seconds'
"""

_SEND_NOT_BEGUN = """
SELECT format('execution %s, step %s, queue %s', e.execution_id, e.step_id, e.effect ->> 'queue') AS example
  FROM executions AS e
 WHERE e.project_no = $2 AND e.bucket >= $3 AND e.bucket < $4
   AND e.outcome IS NULL AND e.parked IS NULL AND e.effect ->> 'kind' = 'run'
   AND greatest(e.since, e.run_since) < $1::timestamptz - interval '5 minutes'
   AND NOT EXISTS (SELECT FROM sends AS s
                    WHERE (s.project_no, s.bucket, s.subject_no, s.execution_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id)
                      AND s.seq = e.seq)
   AND NOT EXISTS (SELECT FROM webhook_calls AS c
                    WHERE (c.project_no, c.bucket, c.subject_no, c.execution_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id)
                      AND c.seq = e.seq)
"""

# Of what executions await by their versions, that which is plain to see: events by name, segments, dates and changes.
_DEAF = """
WITH awaited AS MATERIALIZED (
    SELECT v.journey_id, v.version, step ->> 'id' AS step_id, t.topic
      FROM journey_versions AS v
     CROSS JOIN LATERAL jsonb_path_query(v.definition, '$.steps[*] ? (!exists (@.exit))') AS step
     CROSS JOIN LATERAL (
           SELECT jsonb_build_array(v.definition -> 'exitRules', step -> 'waitFor') AS conditions OFFSET 0) AS c
     CROSS JOIN LATERAL (
           SELECT 'event:' || (name #>> '{}') AS topic
             FROM jsonb_path_query(c.conditions, '$.**.event.eventName') AS name
            UNION
           SELECT 'segment:' || (id #>> '{}')
             FROM jsonb_path_query(c.conditions, '$.**.when.** ? (@.kind == "in_cohort").cohortId') AS id
            UNION
           SELECT 'attributes' WHERE step #> '{waitFor,changed}' IS NOT NULL
                                  OR step #> '{wait,timeOfDay}' IS NOT NULL OR step #> '{wait,date}' IS NOT NULL) AS t
     WHERE v.project_no = $2
)
SELECT format('execution %s, step %s: %s', e.execution_id, e.step_id, a.topic) AS example
  FROM awaited AS a
  JOIN executions AS e
    ON e.project_no = $2 AND e.journey_id = a.journey_id AND e.version = a.version AND e.step_id = a.step_id
 WHERE e.bucket >= $3 AND e.bucket < $4 AND e.outcome IS NULL AND a.topic = ANY (e.awaits) IS NOT TRUE
"""

CHECKS: tuple[Check, ...] = (
    Check(
        name="canceled_running",
        remedy="They were told to end a minute ago and have not: see that workers run and Temporal answers. A send "
        "that is under way is waited for.",
        sql=_CANCELED_RUNNING,
        divided=True,
    ),
    Check(
        name="sends_dispatching",
        remedy="Begun five minutes ago and not settled: the channel's provider is away, or its workers are. Any worker "
        "settles those whose execution was ended in Temporal, within minutes.",
        sql=_DISPATCHING,
    ),
    Check(
        name="calls_calling",
        remedy="A webhook was to be called five minutes ago, and nothing is known of it: its receiver is away, or the "
        "workers are. Any worker settles those whose execution was ended in Temporal, within minutes.",
        sql=_CALLING,
    ),
    Check(
        name="executions_overdue",
        remedy="They should have gone on a minute ago: see that workers run and Temporal answers.",
        sql=_OVERDUE,
        divided=True,
    ),
    Check(
        name="sends_not_begun",
        remedy="Waiting for a worker of their channel, or for one that does what their step says, for five minutes: "
        "see that one serves the queue.",
        sql=_SEND_NOT_BEGUN,
        divided=True,
    ),
    Check(
        name="executions_deaf",
        remedy="They are not looked for when this happens, and go on at their next look only: report it, with the "
        "workers' logs of that execution.",
        sql=_DEAF,
        divided=True,
    ),
)
