-- Pokes for whole projects are asked for at once and told in pages; starts are told before pokes.
-- Safe under load: a new table, a column with a default that rows are not rewritten for, and two indexes of a table that holds
-- what Temporal has still to be told, mostly nothing: writers of it wait while they are made (a second for 500,000 rows). Until
-- the last worker of the release before is gone, its claims look at the whole of that table.

SET LOCAL statement_timeout = '10min';

-- What changed in a project that its executions may await, and how far those who do have been poked. A worker pokes them, some at
-- a time, round and round: what changes meanwhile is the next round's, so that whoever comes last is told as well.
CREATE TABLE topic_pokes (
    project_no    int         NOT NULL PRIMARY KEY,
    topics        text[]      NOT NULL,              -- of this round
    next_topics   text[],                            -- of the next one; null: there is none
    -- Transactions before this one may still go by what was so before; null: none of them is known yet.
    barrier       bigint,
    -- Those up to here have been looked at.
    bucket        smallint    NOT NULL DEFAULT -1,
    subject_no    bigint      NOT NULL DEFAULT 0,
    execution_id  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- When the last page was done.
    moved_at      timestamptz NOT NULL
);
SELECT guard_project('topic_pokes', 'SELECT, INSERT', 'SELECT, UPDATE, DELETE');
GRANT UPDATE (topics, next_topics) ON topic_pokes TO orchestrator_api;

-- When the last page was done: they take turns.
ALTER TABLE journey_closings ADD COLUMN moved_at timestamptz NOT NULL DEFAULT now();

-- Sweepers take starts before pokes, each in the order in which leases run out.
CREATE INDEX outbox_due ON outbox (kind, leased_until);
DROP INDEX outbox_lease;
-- For whoever asks what is still to be told of one execution.
CREATE INDEX outbox_execution ON outbox (execution_id);
