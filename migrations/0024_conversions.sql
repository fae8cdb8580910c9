-- Who converted: the first goal event after the trigger of each enrollment, and after each choice of an arm.
-- Safe under load: a new table, filled from what has happened so far without waiting for anybody (about 10 s for a million
-- enrollments with goals); and an index in the place of another, for which writers wait.

SET LOCAL statement_timeout = '30min';

-- One row for what converted; what did not has none. Both instants are the least of all goal events in the window, so it
-- does not matter in which order these come in, nor how often they are looked at. Events are forgotten, these are not.
CREATE TABLE conversions (
    project_no     int         NOT NULL,
    bucket         smallint    NOT NULL,
    subject_no     bigint      NOT NULL,
    enrollment_id  uuid        NOT NULL,
    -- What is credited: '' and 0, the trigger; else the choice that the execution made there, at this decision.
    step_id        text        COLLATE "C" NOT NULL,
    seq            int         NOT NULL,
    journey_id     text        COLLATE "C" NOT NULL,
    -- When the first of the events happened; and when the first of them to come in did so.
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, enrollment_id, step_id, seq)
);
CREATE INDEX conversions_journey ON conversions (project_no, journey_id, step_id);
SELECT guard_project('conversions', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE, DELETE');
-- A merge gives rows of one subject to another; events of both count for both, and may have been first.
GRANT UPDATE (bucket, subject_no, occurred_at, received_at) ON conversions TO orchestrator_api;

INSERT INTO conversions (project_no, bucket, subject_no, enrollment_id, step_id, seq, journey_id, occurred_at, received_at)
SELECT n.project_no, n.bucket, n.subject_no, n.enrollment_id, '', 0, n.journey_id, e.occurred_at, e.received_at
  FROM enrollments AS n
  JOIN journey_goals AS g
    ON g.project_no = n.project_no AND g.journey_id = n.journey_id AND g.goal_revision = n.goal_revision
  JOIN event_names AS t ON t.project_no = g.project_no AND t.name = g.event_name
  JOIN subject_event_state AS s
    ON s.project_no = n.project_no AND s.bucket = n.bucket AND s.subject_no = n.subject_no AND s.name_no = t.name_no
   AND s.last_at > n.triggered_at
 CROSS JOIN LATERAL (
       SELECT min(occurred_at) AS occurred_at, min(received_at) AS received_at
         FROM events
        WHERE project_no = n.project_no AND bucket = n.bucket AND subject_no = n.subject_no AND name_no = t.name_no
          AND occurred_at > n.triggered_at
          AND occurred_at <= n.triggered_at + make_interval(secs => extract(epoch FROM g.goal_window)::float8)) AS e
 WHERE e.occurred_at IS NOT NULL;

-- First triggers are found by it alone, and all that counts a journey's enrollments; nothing reads them by their age. Last,
-- since those who enroll wait for it (about 2 s for a million rows).
CREATE INDEX enrollments_triggered ON enrollments (project_no, journey_id, bucket, subject_no, triggered_at, enrollment_id)
    INCLUDE (version, goal_revision, held_out_by);
DROP INDEX enrollments_journey;
