-- What webhook steps asked and were answered; and how many journeys stand behind one another where one starts the next.
-- Safe under load: a new table, and columns without a default or with one that rows are not rewritten for.

-- One row per pass over a webhook step. The receiver's key is sha256(execution_id, seq).
CREATE TABLE webhook_calls (
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    execution_id  uuid        NOT NULL,
    seq           int         NOT NULL,
    step_id       text        NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    version       int         NOT NULL,
    state         text        NOT NULL CHECK (state IN ('calling', 'answered', 'failed')),
    -- The try that may write this row, as in `sends`.
    attempt       int         NOT NULL,
    status        smallint,                    -- of HTTP, as the last try was answered
    reason        text,
    -- What `$steps.` reads: a JSON object of at most 8 KiB. Goes with the subject.
    answer        jsonb,
    reserved_at   timestamptz NOT NULL,        -- first reserved
    -- No try is begun before, whoever asks for one. Null: none was in vain.
    retry_at      timestamptz,
    settled_at    timestamptz,
    PRIMARY KEY (project_no, bucket, subject_no, execution_id, seq),
    CONSTRAINT webhook_calls_settled CHECK ((state = 'calling') = (settled_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX webhook_calls_unsettled ON webhook_calls (reserved_at) WHERE state = 'calling';
SELECT guard_project('webhook_calls', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE');
-- As merging and deleting subjects need it.
GRANT UPDATE (bucket, subject_no, answer) ON webhook_calls TO orchestrator_api;

-- Of what an execution told or changed: how many executions, each started by the one before, lead up to it.
-- Null: nobody's but the caller's.
ALTER TABLE inbox ADD COLUMN hops smallint;
ALTER TABLE inbox_dead ADD COLUMN hops smallint;
-- The same of what let the execution in. 0: something from outside.
ALTER TABLE enrollments ADD COLUMN hops smallint NOT NULL DEFAULT 0;
