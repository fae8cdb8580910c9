-- Whole crowds that are being enrolled, page by page, by whichever worker is free.
-- Safe under load: a new table only.

CREATE TABLE enrollment_jobs (
    project_no         int         NOT NULL,
    enrollment_job_id  text        COLLATE "C" NOT NULL,
    journey_id         text        COLLATE "C" NOT NULL,
    -- Who: an audience, a segment, or, neither named, everyone.
    audience_id        text        COLLATE "C",
    segment_id         text        COLLATE "C",
    rate               int         CHECK (rate > 0),     -- entries a second; null: as fast as they can be told of
    state              text        NOT NULL CHECK (state IN ('running', 'paused', 'done', 'canceled', 'failed')),
    reason             text,                             -- why it stands still, or has ended early
    -- Those up to here have been looked at: written by the page that did, so that no page is done twice or left out.
    bucket             smallint    NOT NULL DEFAULT -1,
    subject_no         bigint      NOT NULL DEFAULT 0,
    looked_at          bigint      NOT NULL DEFAULT 0,
    enrolled           bigint      NOT NULL DEFAULT 0,
    held_out           bigint      NOT NULL DEFAULT 0,   -- among those enrolled
    errors             bigint      NOT NULL DEFAULT 0,
    refused            jsonb       NOT NULL DEFAULT '{}', -- by reason
    estimate           bigint,                           -- null: not estimated yet; -1: could not be
    -- The rate has been used up to this instant.
    paced_to           timestamptz NOT NULL,
    -- Not worth a look before.
    next_at            timestamptz NOT NULL,
    created_by         text        NOT NULL,
    -- Raised by what people do, and by its end; not by progress.
    revision           bigint      NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    ended_at           timestamptz,
    PRIMARY KEY (project_no, enrollment_job_id),
    CONSTRAINT enrollment_jobs_crowd CHECK (audience_id IS NULL OR segment_id IS NULL),
    CONSTRAINT enrollment_jobs_ended CHECK ((state IN ('done', 'canceled', 'failed')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX enrollment_jobs_newest ON enrollment_jobs (project_no, created_at, enrollment_job_id);
-- Of rows that every page writes no index names a column that changes with them.
CREATE INDEX enrollment_jobs_running ON enrollment_jobs (project_no) WHERE state = 'running';
SELECT guard_project('enrollment_jobs', 'SELECT, INSERT', 'SELECT, UPDATE');
GRANT UPDATE (state, reason, paced_to, next_at, revision, updated_at, ended_at) ON enrollment_jobs TO orchestrator_api;
