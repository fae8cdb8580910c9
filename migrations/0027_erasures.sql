-- Subjects that were forgotten: by what their ids are known when they come back, and how far each erasure has come.
-- Safe under load: new tables, a column without a default, a function, and rights.

-- What is left of the id of somebody who was forgotten, and leads back to it only for who has the instance's secret:
-- HMAC's shape without its pads, made where the rows are.
CREATE FUNCTION tombstone_hash(project_no int, subject_id text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(i.secret || sha256(i.secret || convert_to(
               'tombstone' || chr(10) || project_no::text || chr(10) || subject_id, 'UTF8')))
      FROM instance AS i
$$;

-- One row for each id of who was forgotten: until it is lifted, nothing takes this id in again.
CREATE TABLE tombstones (
    project_no    int         NOT NULL,
    subject_hash  bytea       NOT NULL,
    erasure_id    text        COLLATE "C" NOT NULL,
    made_at       timestamptz NOT NULL,
    -- How often the id has come back since, and was refused.
    refused       bigint      NOT NULL DEFAULT 0,
    refused_at    timestamptz,
    PRIMARY KEY (project_no, subject_hash)
) WITH (fillfactor = 80);
CREATE INDEX tombstones_erasure ON tombstones (project_no, erasure_id);
SELECT guard_project('tombstones', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, DELETE');

-- The receipt, and while the erasure is under way what is needed for it. Kept.
CREATE TABLE erasures (
    project_no    int         NOT NULL,
    erasure_id    text        COLLATE "C" NOT NULL,
    -- domain/subject.py: subject_hash, as in logs and in the audit log
    subject_ref   text        COLLATE "C" NOT NULL,
    -- request | replay: of the ledger, after a restore
    origin        text        NOT NULL CHECK (origin IN ('request', 'replay')),
    -- How many ids the person had.
    ids           int         NOT NULL,
    -- domain/erasure.py: Phase; the one that is under way, or done
    phase         text        COLLATE "C" NOT NULL,
    -- {"phase": {"ended_at": …, "counts": {"what": how many}}}
    phases        jsonb       NOT NULL,
    -- Whose rows, by which ids Temporal's runs are found, and until when a start that was under way may still come to
    -- be. Null once everything is done.
    bucket        smallint,
    subject_no    bigint,
    subject_ids   text[],
    starts_until  timestamptz,
    requested_at  timestamptz NOT NULL,
    -- When Temporal was last told of it.
    told_at       timestamptz,
    ended_at      timestamptz,
    lifted_at     timestamptz,
    PRIMARY KEY (project_no, erasure_id),
    CONSTRAINT erasures_ended CHECK (
        (phase = 'done') = (ended_at IS NOT NULL)
        AND num_nonnulls(bucket, subject_no, subject_ids) = CASE WHEN phase = 'done' THEN 0 ELSE 3 END)
);
CREATE INDEX erasures_newest ON erasures (project_no, requested_at DESC, erasure_id DESC);
CREATE INDEX erasures_open ON erasures (requested_at) WHERE ended_at IS NULL;
SELECT guard_project('erasures', 'SELECT, INSERT', 'SELECT, UPDATE');
GRANT UPDATE (lifted_at) ON erasures TO orchestrator_api;

-- An answer that spoke of somebody who was forgotten is gone; that the request took effect is still known.
ALTER TABLE idempotency ADD COLUMN erased_at timestamptz;
GRANT UPDATE (request_id, fingerprint, response, erased_at) ON idempotency TO orchestrator_worker;

-- Ledgers stay, without what says whose they are.
GRANT UPDATE (entry, entry_key) ON enrollments TO orchestrator_worker;
GRANT UPDATE (draw, context) ON arm_choices TO orchestrator_worker;
GRANT DELETE ON test_sends TO orchestrator_worker;
