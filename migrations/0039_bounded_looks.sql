-- Looks that read what they look for and no more: entries of the inbox that failed, and months of events that hold nothing.
-- Safe under load: an index of rows of which there are few, for which ingest waits while the inbox is read once (about a
-- second for ten million entries that wait); a function is replaced.

SET LOCAL statement_timeout = '30min'; -- The inbox may be long where workers were away.

-- Without it, to find that nothing has failed is to read all that waits.
CREATE INDEX inbox_failed ON inbox (inbox_no) WHERE attempts > 0;

-- Removes one month of events that holds nothing any more and is over by then; returns how many it was. Run it until there is
-- none: from the lock to the end of the transaction nobody reads or writes events, so there is only one to a transaction. A
-- month that was emptied just now is full of what is gone, and to look through that takes long: vacuum, which comes by
-- itself, gives its pages back first.
CREATE OR REPLACE FUNCTION drop_empty_events_months(before date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    part regclass;
    holds_something boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ensure_events_month'));
    FOR part IN
        SELECT inhrelid FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
         WHERE inhparent = 'events'::regclass AND c.relname ~ '^events_\d{4}_\d{2}$'
           AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= before
         ORDER BY c.relname
    LOOP
        CONTINUE WHEN pg_relation_size(part) > 8 * 1024 * 1024;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO holds_something;
        CONTINUE WHEN holds_something;
        LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO holds_something;
        IF holds_something THEN
            RETURN 0;
        END IF;
        EXECUTE format('DROP TABLE %s', part);
        RETURN 1;
    END LOOP;
    RETURN 0;
END $$;
