-- Who entered, where each execution stands, what it did, and what is still to be told to Temporal.
-- Safe under load: new tables only.
--
-- Ledgers have no foreign keys to definitions: a deleted audience must not touch history. `doctor` checks them.

-- One row per admission, held-out ones too; written once.
CREATE TABLE enrollments (
    project_no     int         NOT NULL,
    bucket         smallint    NOT NULL,
    subject_no     bigint      NOT NULL,
    enrollment_id  uuid        NOT NULL,
    journey_id     text        COLLATE "C" NOT NULL,
    version        int         NOT NULL,
    goal_revision  int         NOT NULL,
    entry_kind     text        NOT NULL,       -- event | enroll
    entry_key      text        COLLATE "C" NOT NULL,
    -- The trigger's instant, by which intervals count: the event's occurred_at, or the call's time.
    triggered_at   timestamptz NOT NULL,
    -- What `$entry.` reads: the properties of the triggering event.
    entry          jsonb       NOT NULL DEFAULT '{}',
    held_out_by    text,                       -- null: exposed
    enrolled_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, enrollment_id),
    -- The last word on re-entry; application/enrollment.py decides before it comes to this.
    CONSTRAINT enrollments_entry_key UNIQUE (project_no, bucket, subject_no, journey_id, entry_key)
);
CREATE INDEX enrollments_journey ON enrollments (project_no, journey_id, enrolled_at DESC);
SELECT guard_project('enrollments', 'SELECT, INSERT', 'SELECT, INSERT, DELETE');

-- The truth about an execution. It has its enrollment's id. `seq` counts decisions; `effect` is the last one.
CREATE TABLE executions (
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    execution_id  uuid        NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    version       int         NOT NULL,
    workflow_id   text        COLLATE "C" NOT NULL,
    seq           int         NOT NULL,
    step_id       text        NOT NULL,        -- where it stands
    since         timestamptz NOT NULL,        -- since when
    effect        jsonb       NOT NULL,        -- orchestrator/temporal/contract.py: Effect
    wakes_at      timestamptz,                 -- the effect's `until`
    parked        text,                        -- why it cannot go on for now
    outcome       text,                        -- null: still running
    reason        text,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    PRIMARY KEY (project_no, bucket, subject_no, execution_id),
    CONSTRAINT executions_ended CHECK ((outcome IS NULL) = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX executions_by_id ON executions (project_no, execution_id);
CREATE INDEX executions_newest ON executions (project_no, journey_id, started_at DESC, execution_id);
CREATE INDEX executions_open ON executions (project_no, journey_id) WHERE outcome IS NULL;
SELECT guard_project('executions', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE, DELETE');

CREATE TABLE visits (
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    execution_id  uuid        NOT NULL,
    seq           int         NOT NULL,        -- the decision that left the step
    place         smallint    NOT NULL,        -- among the visits of that decision, from 0
    step_id       text        NOT NULL,
    step_kind     text        NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    version       int         NOT NULL,
    result        text        NOT NULL CHECK (result IN ('executed', 'skipped', 'failed')),
    reason        text,                        -- why skipped or failed; which arm was taken
    entered_at    timestamptz NOT NULL,
    left_at       timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, execution_id, seq, place)
);
CREATE INDEX visits_step ON visits (project_no, journey_id, step_id, result);
SELECT guard_project('visits', 'SELECT, INSERT', 'SELECT, INSERT, DELETE');

-- One row per pass over a send step that got past its gates. The provider's key is sha256(execution_id, seq).
CREATE TABLE sends (
    project_no        int         NOT NULL,
    bucket            smallint    NOT NULL,
    subject_no        bigint      NOT NULL,
    execution_id      uuid        NOT NULL,
    seq               int         NOT NULL,
    step_id           text        NOT NULL,
    journey_id        text        COLLATE "C" NOT NULL,
    version           int         NOT NULL,
    communication_id  text        COLLATE "C" NOT NULL,
    content_revision  int         NOT NULL,
    channel           text        COLLATE "C" NOT NULL,
    category          text        NOT NULL,
    state             text        NOT NULL CHECK (state IN ('dispatching', 'sent', 'failed', 'unknown')),
    -- The try that may write this row: a frozen process that thaws finds a higher one and stops.
    attempt           int         NOT NULL,
    -- Whether the last try may have reached the provider without our knowing.
    in_doubt          boolean     NOT NULL DEFAULT true,
    reason            text,
    provider_id       text,
    reserved_at       timestamptz NOT NULL,    -- first reserved
    settled_at        timestamptz,
    PRIMARY KEY (project_no, bucket, subject_no, execution_id, seq),
    CONSTRAINT sends_settled CHECK ((state = 'dispatching') = (settled_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX sends_journey ON sends (project_no, journey_id, state);
CREATE INDEX sends_unsettled ON sends (reserved_at) WHERE state = 'dispatching';
SELECT guard_project('sends', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE');

-- What the log channel "sent": its receipt, so that a message can be looked at.
CREATE TABLE log_messages (
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    idempotency_key text      COLLATE "C" NOT NULL,
    subject_line  text        NOT NULL,
    body          text        NOT NULL,
    logged_at     timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, idempotency_key)
);
SELECT guard_project('log_messages', 'SELECT', 'SELECT, INSERT, DELETE');

-- Entries that were refused: how many, by journey, reason and hour. Sharded, so that consumers do not queue for one row.
CREATE TABLE refusal_counts (
    project_no  int         NOT NULL,
    journey_id  text        COLLATE "C" NOT NULL,
    reason      text        COLLATE "C" NOT NULL,
    hour        timestamptz NOT NULL,
    shard       smallint    NOT NULL,
    total       bigint      NOT NULL,
    PRIMARY KEY (project_no, journey_id, reason, hour, shard)
) WITH (fillfactor = 70);
SELECT guard_project('refusal_counts', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, INSERT, UPDATE, DELETE');

-- What Temporal has still to be told. Written with the decision, deleted once Temporal has answered.
CREATE TABLE outbox (
    outbox_no     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_no    int         NOT NULL,
    bucket        smallint    NOT NULL,
    subject_no    bigint      NOT NULL,
    execution_id  uuid        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('start', 'poke')),
    workflow_id   text        COLLATE "C" NOT NULL,
    attempts      int         NOT NULL DEFAULT 0,
    -- Until then the row belongs to whoever is working on it; at first, to the process that wrote it.
    leased_until  timestamptz NOT NULL,
    last_error    text,
    created_at    timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX outbox_lease ON outbox (leased_until);
SELECT guard_project('outbox', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE, DELETE');

-- What Temporal refused for good. `doctor` shows it.
CREATE TABLE outbox_dead (LIKE outbox, died_at timestamptz NOT NULL, PRIMARY KEY (outbox_no));
SELECT guard_project('outbox_dead', 'SELECT', 'SELECT, INSERT, DELETE');
