-- What providers report of a message after they have taken it, and how the message is found.
-- Safe under load: columns without a default, rights, a function. Writers of sends wait while two indexes are made,
-- which takes one look at the table (about 5 s for 10 million rows); they have no rows of the channel log.

SET LOCAL statement_timeout = '10min';

-- When each was true first. They are not states of one another: reports come late, twice and in any order.
ALTER TABLE sends
    ADD COLUMN delivered_at    timestamptz,
    ADD COLUMN soft_bounced_at timestamptz,
    ADD COLUMN bounced_at      timestamptz,  -- for good
    ADD COLUMN complained_at   timestamptz,
    ADD COLUMN opened_at       timestamptz,
    ADD COLUMN clicked_at      timestamptz;
GRANT UPDATE (delivered_at, soft_bounced_at, bounced_at, complained_at, opened_at, clicked_at) ON sends
    TO orchestrator_api;

-- What tells messages apart comes first: a planner without statistics would make do with the project.
CREATE INDEX sends_provider ON sends (provider_id, project_no) WHERE channel <> 'log' AND provider_id IS NOT NULL;

-- The key that providers are given: application/sending.py, idempotency_key.
CREATE FUNCTION send_key(execution_id uuid, seq int) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256((execution_id::text || '/' || seq::text)::bytea);

CREATE INDEX sends_key ON sends (send_key(execution_id, seq), project_no) WHERE channel <> 'log';

-- Which sends have these keys, in the caller's project. Behind row-level security an index on an expression is of no
-- use, since the expression might leak rows; so it is asked by the owner of the table.
CREATE FUNCTION sends_by_key(keys bytea[])
RETURNS TABLE (key bytea, bucket smallint, subject_no bigint, execution_id uuid, seq int)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT wanted.key, s.bucket, s.subject_no, s.execution_id, s.seq
    FROM unnest(keys) AS wanted (key)
    CROSS JOIN LATERAL (
        SELECT bucket, subject_no, execution_id, seq
        FROM sends
        WHERE project_no = current_setting('app.project_no')::int
            AND send_key(execution_id, seq) = wanted.key
            AND channel <> 'log'
        OFFSET 0
    ) AS s
$$;
REVOKE ALL ON FUNCTION sends_by_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sends_by_key TO orchestrator_api;
