"""What must hold between the tables, and for how long something may lie: each a query for what is wrong.

The queries return one column, `example`: what an operator looks for next, never a value of a subject's. `$1` is the
database's clock. Queries that are divided look at the project `$2` and the buckets from `$3` up to, but not, `$4`; a
query that takes a sample begins at the bucket `$5`.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.storage.erasures import IS_UNWRITTEN
from orchestrator.storage.journeys import TRIGGER_SEGMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`remedy` is what to do, for whoever finds something. `sampled` implies `divided`."""

    name: str
    remedy: str
    sql: str
    divided: bool = False
    sampled: bool = False


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

_CANCELED_RUNNING = """
SELECT format('execution %s, step %s, told to end %s', execution_id, step_id, cancel_asked_at) AS example
  FROM executions
 WHERE project_no = $2 AND bucket >= $3 AND bucket < $4
   AND outcome IS NULL AND cancel_asked_at < $1::timestamptz - interval '60 seconds'
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

_OUTBOX_DEAD = """
SELECT format('outbox_dead %s: %s %s', outbox_no, kind, last_error) AS example FROM outbox_dead
"""

_DISPATCHING = """
SELECT format('execution %s, seq %s, channel %s, attempt %s', execution_id, seq, channel, attempt) AS example
  FROM sends AS s
 WHERE state = 'dispatching' AND reserved_at < $1::timestamptz - interval '5 minutes'
   -- Who is parked goes on with it when that is mended.
   AND NOT EXISTS (SELECT FROM executions AS e
                    WHERE (e.project_no, e.bucket, e.subject_no, e.execution_id)
                        = (s.project_no, s.bucket, s.subject_no, s.execution_id)
                      AND e.outcome IS NULL AND e.parked IS NOT NULL)
"""

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
   AND e.since < $1::timestamptz - interval '5 minutes'
   AND NOT EXISTS (SELECT FROM sends AS s
                    WHERE (s.project_no, s.bucket, s.subject_no, s.execution_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id)
                      AND s.seq = e.seq)
   AND NOT EXISTS (SELECT FROM webhook_calls AS c
                    WHERE (c.project_no, c.bucket, c.subject_no, c.execution_id)
                        = (e.project_no, e.bucket, e.subject_no, e.execution_id)
                      AND c.seq = e.seq)
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

_UNCOUNTED = """
SELECT format('project %s, event %s, kind number %s: %s of 256 buckets', d.project_no, n.name, d.name_no, d.bucket)
       AS example
  FROM derived_events AS d
  LEFT JOIN event_names AS n ON n.project_no = d.project_no AND n.name_no = d.base_no
 WHERE d.ready_at IS NULL AND d.leased_until < $1::timestamptz - interval '60 seconds'
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
        name="canceled_running",
        remedy="They were told to end a minute ago and have not: see that workers run and Temporal answers. A send "
        "that is under way is waited for.",
        sql=_CANCELED_RUNNING,
        divided=True,
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
        name="outbox_dead",
        remedy="Temporal refuses these for good: ID_TAKEN means that another database starts workflows in the same "
        "namespace.",
        sql=_OUTBOX_DEAD,
    ),
    Check(
        name="sends_dispatching",
        remedy="Begun five minutes ago and not settled: the channel's provider is away, or its workers are.",
        sql=_DISPATCHING,
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
        name="executions_deaf",
        remedy="They are not looked for when this happens, and go on at their next look only: report it, with the "
        "workers' logs of that execution.",
        sql=_DEAF,
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
    Check(
        name="events_miscounted",
        remedy="The counts of a subject's events differ from its events: predicates on them are wrong. Report it.",
        sql=_MISCOUNTED,
        sampled=True,
        divided=True,
    ),
    Check(
        name="kinds_uncounted",
        remedy="Events from before a `where` was saved are not counted yet, and for a minute nobody was at it: see "
        "that workers run, and what they log. Predicates are right meanwhile; segments wait.",
        sql=_UNCOUNTED,
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
