-- Entries that were triggered and are not decided yet; and what Temporal is to know of journeys that enroll on schedule.
-- Safe under load: new tables only.

-- Their journey is paused, or what it asks of the subject may still come.
CREATE TABLE held_entries (
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    entry_key     text        COLLATE "C" NOT NULL,
    -- In this order they were triggered, and are decided.
    held_no       bigint      GENERATED ALWAYS AS IDENTITY,
    entry_kind    text        NOT NULL CHECK (entry_kind IN ('event', 'segment')),
    event_id      text,                        -- null: no event
    -- An event, or a transition: coming to a segment, or leaving it.
    event_no      bigint,
    name_no       int,
    transition_no bigint,
    segment_no    int,
    entered       boolean,
    triggered_at  timestamptz NOT NULL,
    entry         jsonb       NOT NULL DEFAULT '{}',
    -- As of enrollments: it waits, and comes from no less far away for that.
    hops          smallint    NOT NULL DEFAULT 0,
    held_at       timestamptz NOT NULL,
    -- Until then what is asked of the subject may come to hold; null: it may not.
    grace_until   timestamptz,
    -- Whoever consumes the inbox looks then, if nothing happens to the subject before. Null: the journey is paused, and a
    -- worker sets it once that is over.
    look_at       timestamptz,
    -- One entry never waits twice.
    PRIMARY KEY (project_no, bucket, subject_no, journey_id, entry_key),
    CONSTRAINT held_entries_trigger CHECK (
        num_nonnulls(event_no, name_no) IN (0, 2) AND num_nonnulls(transition_no, segment_no, entered) IN (0, 3)
        AND (event_no IS NULL) <> (transition_no IS NULL))
);
CREATE INDEX held_entries_journey ON held_entries (project_no, journey_id, held_no);
CREATE INDEX held_entries_due ON held_entries (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX held_entries_until_resumed ON held_entries (project_no, journey_id, held_no) WHERE look_at IS NULL;
SELECT guard_project('held_entries', 'SELECT, DELETE', 'SELECT, INSERT, UPDATE, DELETE');
GRANT UPDATE (bucket, subject_no) ON held_entries TO orchestrator_api;

-- A journey that has a schedule, or had one. What it is, and whether it is paused, the journey says; here is whether
-- Temporal knows.
CREATE TABLE journey_schedules (
    project_no     int         NOT NULL,
    journey_id     text        COLLATE "C" NOT NULL,
    -- Raised by everything that may change it.
    revision       bigint      NOT NULL DEFAULT 1,
    changed_at     timestamptz NOT NULL,
    told_revision  bigint      NOT NULL DEFAULT 0,
    told_at        timestamptz NOT NULL DEFAULT '-infinity',
    -- Until then the row belongs to whoever tells Temporal.
    leased_until   timestamptz NOT NULL DEFAULT '-infinity',
    -- The last time that was due and has been seen to; and the last job that came of one.
    due_at         timestamptz,
    enrollment_job_id text     COLLATE "C",
    PRIMARY KEY (project_no, journey_id)
);
SELECT guard_project('journey_schedules', 'SELECT, INSERT', 'SELECT, UPDATE, DELETE');
GRANT UPDATE (revision, changed_at) ON journey_schedules TO orchestrator_api;
-- Workers ask for crowds too: for those of schedules.
GRANT INSERT ON enrollment_jobs TO orchestrator_worker;
