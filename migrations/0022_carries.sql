-- Executions under way that go over to another version, as was asked for with its publishing.
-- Safe under load: columns without a default, a new table, and an index over rows of which there are none yet; writers of
-- executions wait while it is made, which takes one look at the table (about 2 s for 10 million rows).

SET LOCAL statement_timeout = '10min';

ALTER TABLE executions
    -- The version that it goes over to at its next look; null: it stays on its own.
    ADD COLUMN carry_version int,
    -- Of one that has gone over: the steps of its version whose messages, calls and events it had sent by then.
    ADD COLUMN sent_before text[];

ALTER TABLE webhook_calls
    -- Whether the receiver may have taken it, although nobody knows that it has: then another version does not make it.
    ADD COLUMN in_doubt boolean NOT NULL DEFAULT true,
    -- The step that its step has become, by which `$steps.` reads the answer; null: it is called as ever.
    ADD COLUMN known_as text;

-- Who has still to go over. Updates of all others stay in their page.
CREATE INDEX executions_carrying ON executions (project_no, journey_id, carry_version) WHERE carry_version IS NOT NULL;

-- The going over to a version: a worker marks and pokes executions of older ones, some at a time. Kept, since it says what
-- has become of steps, and so that it can be asked how far it came.
CREATE TABLE carries (
    project_no    int         NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    version       int         NOT NULL,              -- to which
    mode          text        NOT NULL CHECK (mode IN ('compatible', 'mapped')),
    mapping       jsonb       NOT NULL DEFAULT '{}', -- {"old step": "new step"}
    matched       bigint      NOT NULL,              -- those on older versions when it was asked for
    told          bigint      NOT NULL DEFAULT 0,
    stayed        jsonb       NOT NULL DEFAULT '{}', -- by reason
    requested_at  timestamptz NOT NULL,
    -- Transactions before this one may still let somebody into an older version; null: none of them is known yet.
    barrier       bigint,
    -- Those up to here have been looked at: newest first, by what no merge changes; null: nobody.
    started_at    timestamptz,
    execution_id  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- When the last page was done.
    moved_at      timestamptz NOT NULL,
    -- Null: under way.
    ended_at      timestamptz,
    PRIMARY KEY (project_no, journey_id, version)
);
CREATE INDEX carries_open ON carries (requested_at) WHERE ended_at IS NULL;
SELECT guard_project('carries', 'SELECT, INSERT', 'SELECT, UPDATE');
