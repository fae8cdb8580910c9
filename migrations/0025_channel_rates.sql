-- Channels with a rate: how much of it has been used, and the sends that wait for their turn. A replay can be canceled.
-- Safe under load: new tables, and a right.

-- Made when a channel with a rate is first used.
CREATE TABLE channel_turns (
    project_no    int         NOT NULL,
    channel       text        COLLATE "C" NOT NULL,
    -- The rate has been used up to this instant.
    used_to       timestamptz NOT NULL,
    -- The provider wants nothing before.
    closed_until  timestamptz,
    -- Seconds that usually pass between letting a send out and the call to the provider.
    lead          float8      NOT NULL DEFAULT 0.1,
    PRIMARY KEY (project_no, channel)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
SELECT guard_project('channel_turns', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE');

-- A row goes when its send has its turn, or is not to be made any more. It names no subject: merging leaves it alone.
CREATE TABLE waiting_sends (
    project_no    int         NOT NULL,
    channel       text        COLLATE "C" NOT NULL,
    rank          smallint    NOT NULL,                 -- domain/channel_rate.py
    waiting_no    bigint      GENERATED ALWAYS AS IDENTITY,
    execution_id  uuid        NOT NULL,
    since         timestamptz NOT NULL,
    -- When its execution was last told to go on; null: it waits.
    let_out_at    timestamptz,
    PRIMARY KEY (project_no, channel, rank, waiting_no),
    CONSTRAINT waiting_sends_once UNIQUE (project_no, execution_id)
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX waiting_sends_let_out ON waiting_sends (project_no, channel, let_out_at) WHERE let_out_at IS NOT NULL;
SELECT guard_project('waiting_sends', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE, DELETE');

-- Whoever asked for entries to be decided on again may stop it.
GRANT UPDATE (ended_at, end_reason) ON entry_replays TO orchestrator_api;
