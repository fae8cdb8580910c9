-- Executions that are told to end, one by one or many of a journey at once; and when somebody last looked for stuck ones.
-- Safe under load: columns without a default, and new tables.

ALTER TABLE executions
    -- Why somebody wants it ended: it ends at its next look. Null: nobody does.
    ADD COLUMN cancel_reason text COLLATE "C",
    ADD COLUMN cancel_asked_at timestamptz;
GRANT UPDATE (cancel_reason, cancel_asked_at) ON executions TO orchestrator_api;

-- The cancelling of many: a worker marks and pokes those that meet the filter, some at a time. Kept, so that it can be
-- asked how far it came.
CREATE TABLE cancellations (
    project_no       int         NOT NULL,
    cancellation_id  text        COLLATE "C" NOT NULL,
    journey_id       text        COLLATE "C" NOT NULL,
    -- domain/cancellation.py: Filter, without subjects
    filter           jsonb       NOT NULL,
    reason           text        COLLATE "C" NOT NULL,
    matched          bigint      NOT NULL,
    canceled         bigint      NOT NULL DEFAULT 0,
    -- Executions that started later are not meant.
    requested_at     timestamptz NOT NULL,
    -- Those up to here have been looked at: newest first, by what no merge changes.
    started_at       timestamptz NOT NULL,
    execution_id     uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- When the last page was done.
    moved_at         timestamptz NOT NULL,
    -- Null: under way.
    ended_at         timestamptz,
    PRIMARY KEY (project_no, cancellation_id)
);
CREATE INDEX cancellations_open ON cancellations (requested_at) WHERE ended_at IS NULL;
SELECT guard_project('cancellations', 'SELECT, INSERT', 'SELECT, UPDATE');

-- How many executions are stuck, by cause, for the metric: one process counts for all of them.
CREATE TABLE stuck_counts (
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    counts        jsonb       NOT NULL DEFAULT '{}',
    -- Whoever finds this past counts next.
    leased_until  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO stuck_counts DEFAULT VALUES;
GRANT SELECT, UPDATE ON stuck_counts TO orchestrator_worker;
