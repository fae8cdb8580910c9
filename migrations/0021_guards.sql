-- Entries that were refused and can be decided on again; what sends of a journey come to, by which they are paused; tests.
-- Safe under load: new tables, and columns that rows are not rewritten for.

-- What was refused and may be let in later: bounded by journey, reason and hour (storage/refused_entries.py), and in time.
CREATE TABLE refused_entries (
    project_no     int         NOT NULL,
    journey_id     text        COLLATE "C" NOT NULL,
    reason         text        COLLATE "C" NOT NULL,
    refused_at     timestamptz NOT NULL,
    refused_no     bigint      GENERATED ALWAYS AS IDENTITY,
    bucket         smallint    NOT NULL,
    subject_no     bigint      NOT NULL,
    -- When the event occurred, or the subject was found to have moved.
    occurred_at    timestamptz NOT NULL,
    -- An event, or a transition: coming to a segment, or leaving it.
    event_no       bigint,
    name_no        int,
    transition_no  bigint,
    segment_no     int,
    entered        boolean,
    -- As of enrollments: whoever is let in later comes from no less far away for that.
    hops           smallint    NOT NULL DEFAULT 0,
    PRIMARY KEY (project_no, journey_id, reason, refused_at, refused_no),
    CONSTRAINT refused_entries_trigger CHECK (
        num_nonnulls(event_no, name_no) IN (0, 2) AND num_nonnulls(transition_no, segment_no, entered) IN (0, 3)
        AND (event_no IS NULL) <> (transition_no IS NULL))
);
CREATE INDEX refused_entries_subject ON refused_entries (project_no, bucket, subject_no);
-- For those who forget the old ones; a few pages, hardly ever written to.
CREATE INDEX refused_entries_age ON refused_entries USING brin (refused_at);
SELECT guard_project('refused_entries', 'SELECT, DELETE', 'SELECT, INSERT, DELETE');
-- A merge gives rows of one subject to another.
GRANT UPDATE (bucket, subject_no) ON refused_entries TO orchestrator_api;

-- Deciding on them again, some at a time. Kept, so that it can be asked how far it came.
CREATE TABLE entry_replays (
    project_no       int         NOT NULL,
    entry_replay_id  text        COLLATE "C" NOT NULL,
    journey_id       text        COLLATE "C" NOT NULL,
    reason           text        COLLATE "C" NOT NULL,
    refused_before   timestamptz NOT NULL,
    refused_after    timestamptz NOT NULL,
    matched          bigint      NOT NULL,
    looked_at        bigint      NOT NULL DEFAULT 0,
    enrolled         bigint      NOT NULL DEFAULT 0,
    errors           bigint      NOT NULL DEFAULT 0,
    refused          jsonb       NOT NULL DEFAULT '{}',  -- by reason
    requested_at     timestamptz NOT NULL,
    -- Those up to here have been looked at, oldest first.
    place_at         timestamptz NOT NULL,
    place_no         bigint      NOT NULL DEFAULT 0,
    -- When the last page was done.
    moved_at         timestamptz NOT NULL,
    -- Null: under way.
    ended_at         timestamptz,
    end_reason       text,                               -- why it ended before all were looked at
    PRIMARY KEY (project_no, entry_replay_id)
);
CREATE INDEX entry_replays_open ON entry_replays (requested_at) WHERE ended_at IS NULL;
SELECT guard_project('entry_replays', 'SELECT, INSERT', 'SELECT, UPDATE');

-- Of journeys that pause their sends by themselves: what came of them, by the minute in which it was learned. Sharded, so
-- that sends do not queue for one row.
CREATE TABLE send_tallies (
    project_no  int         NOT NULL,
    journey_id  text        COLLATE "C" NOT NULL,
    minute      timestamptz NOT NULL,
    shard       smallint    NOT NULL,
    sends       bigint      NOT NULL,
    failed      bigint      NOT NULL,
    complained  bigint      NOT NULL,
    PRIMARY KEY (project_no, journey_id, minute, shard)
) WITH (fillfactor = 70);
SELECT guard_project('send_tallies', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT, UPDATE, DELETE');

-- Why sends were paused without anybody asking for it, and what was counted then. Null: somebody did.
ALTER TABLE sends_pauses
    ADD COLUMN reason     text COLLATE "C",
    ADD COLUMN sends      bigint,
    ADD COLUMN failed     bigint,
    ADD COLUMN complained bigint;
GRANT INSERT ON sends_pauses TO orchestrator_worker;

-- What is told, and runs, behind all else: those whom jobs and replays let in.
ALTER TABLE outbox ADD COLUMN behind boolean NOT NULL DEFAULT false;

-- Communications sent to addresses that somebody gave, to see them there. They are in no ledger of sends.
CREATE TABLE test_sends (
    project_no        int         NOT NULL,
    test_send_id      text        COLLATE "C" NOT NULL,
    communication_id  text        COLLATE "C" NOT NULL,  -- '': content that was given with the call
    content_revision  int         NOT NULL,
    channel           text        COLLATE "C" NOT NULL,
    category          text        NOT NULL,
    -- With whose attributes it was rendered; null: with given ones.
    bucket            smallint,
    subject_no        bigint,
    -- The rendered message and its addresses; null as soon as it has been handed over to all of them, or was not in time.
    message           jsonb,
    -- By address, in their order: {"state", "reason"}
    results           jsonb       NOT NULL,
    requested_at      timestamptz NOT NULL,
    ended_at          timestamptz,
    PRIMARY KEY (project_no, test_send_id)
);
CREATE INDEX test_sends_open ON test_sends (requested_at) WHERE message IS NOT NULL;
CREATE INDEX test_sends_newest ON test_sends (project_no, requested_at);
SELECT guard_project('test_sends', 'SELECT, INSERT, DELETE', 'SELECT, UPDATE, DELETE');
GRANT UPDATE (bucket, subject_no) ON test_sends TO orchestrator_api;
