-- Events of every name (number 0), events of a kind (an event with a `where`), and how far back events are kept.
-- Safe under load: yes, but ingest waits while the counts of every name are summed up (about 10 s for 4 million rows of
-- subject_event_state). Servers of an older release do not keep these counts: stop them first.

-- 100 million rows may have to be summed up, once.
SET LOCAL statement_timeout = '30min';

-- An event whose properties satisfy a predicate, counted as if it were an event of its own: for each event of the base
-- name that the predicate holds for there is a copy in events, without properties and with this number, and the same in
-- subject_event_state and subject_event_days. Numbers are shared with event_names, where none of these stands: what is
-- shown to people joins event_names and so leaves the copies out.
--
-- Rows are only added, under the lock that ingest shares (storage/subjects.py): an event is either taken in by somebody
-- who knows the row, or committed before it and then counted by the backfill.
CREATE TABLE derived_events (
    project_no    int         NOT NULL,
    name_no       int         NOT NULL,
    base_no       int         NOT NULL,
    -- Of the predicate's canonical text (predicates/tree.py: Where).
    where_sha256  bytea       NOT NULL CHECK (length(where_sha256) = 32),
    predicate     jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    -- The backfill: subjects of this bucket up to this number, and of all buckets before, are counted.
    bucket        smallint    NOT NULL DEFAULT 0,
    subject_no    bigint      NOT NULL DEFAULT 0,
    -- Until then it belongs to the process that is at it.
    leased_until  timestamptz NOT NULL,
    -- Null: events from before are still being counted.
    ready_at      timestamptz,
    PRIMARY KEY (project_no, name_no),
    CONSTRAINT derived_events_where_key UNIQUE (project_no, base_no, where_sha256)
);
CREATE INDEX derived_events_building ON derived_events (leased_until) WHERE ready_at IS NULL;
SELECT guard_project('derived_events', 'SELECT, INSERT', 'SELECT, UPDATE');

DO $$
BEGIN
    EXECUTE format('ALTER TABLE derived_events ALTER name_no SET DEFAULT nextval(%L)',
                   pg_get_serial_sequence('event_names', 'name_no'));
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO orchestrator_api', pg_get_serial_sequence('event_names', 'name_no'));
END $$;

-- From when on a project's events are complete, where some have had their time. Written before anything is removed.
CREATE TABLE event_horizons (
    project_no  int         PRIMARY KEY,
    kept_from   timestamptz NOT NULL,
    -- What was to go has gone, up to there.
    cleared_to  timestamptz
);
SELECT guard_project('event_horizons', 'SELECT', 'SELECT, INSERT, UPDATE');

-- Removes the months of events that hold nothing any more, but for those that may soon hold something; returns how many.
-- Whoever reads or writes events is in the way of it and it in theirs, so it gives up at once and is run again.
CREATE FUNCTION drop_empty_events_months(before date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    part regclass;
    holds_something boolean;
    dropped int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ensure_events_month'));
    FOR part IN
        SELECT inhrelid FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
         WHERE inhparent = 'events'::regclass AND c.relname ~ '^events_\d{4}_\d{2}$'
           AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before
         ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO holds_something;
        CONTINUE WHEN holds_something;
        LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO holds_something;
        CONTINUE WHEN holds_something;
        EXECUTE format('DROP TABLE %s', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE ALL ON FUNCTION drop_empty_events_months FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_empty_events_months TO orchestrator_worker;

-- Nobody counts while this is summed up.
LOCK TABLE subject_event_state IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO subject_event_state (subject_no, total, first_at, last_at, project_no, name_no, bucket)
SELECT subject_no, sum(total), min(first_at), max(last_at), project_no, 0, bucket
  FROM subject_event_state
 GROUP BY project_no, bucket, subject_no;
