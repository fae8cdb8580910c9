-- The audit log becomes a chain: every entry gets a seal, a hash over it and the seal before, and cannot be changed any more.
-- Safe under load: new tables and triggers. Whoever writes to the audit log waits while what is in it is queued for
-- sealing: some seconds for a million entries.

-- Who is writing has committed when the triggers begin, so that every entry is queued once: here, or by them.
LOCK TABLE audit_log IN SHARE ROW EXCLUSIVE MODE;

-- The chain of each project: `seq` counts from 1 without a gap, and what it is made of stands in storage/audit_seals.py.
CREATE TABLE audit_seals (
    project_no  int         NOT NULL,
    seq         bigint      NOT NULL CHECK (seq > 0),
    audit_no    bigint      NOT NULL,
    hash        bytea       NOT NULL CHECK (length(hash) = 32),
    sealed_at   timestamptz NOT NULL,
    PRIMARY KEY (project_no, seq),
    CONSTRAINT audit_seals_entry_key UNIQUE (project_no, audit_no)
);
SELECT guard_project('audit_seals', 'SELECT', 'SELECT, INSERT');

-- Entries without a seal yet. A queue, since numbers become visible in another order than they were given in.
CREATE TABLE audit_unsealed (
    project_no  int         NOT NULL,
    audit_no    bigint      NOT NULL,
    written_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (project_no, audit_no)
);
SELECT guard_project('audit_unsealed', 'SELECT', 'SELECT, DELETE');

-- Which seals have been told outside of the database, so that whichever worker looks next knows what is due.
CREATE TABLE audit_anchors (
    project_no   int         NOT NULL,
    seq          bigint      NOT NULL,
    hash         bytea       NOT NULL,
    anchored_at  timestamptz NOT NULL,
    PRIMARY KEY (project_no, seq)
);
SELECT guard_project('audit_anchors', 'SELECT', 'SELECT, INSERT');

INSERT INTO audit_unsealed (project_no, audit_no) SELECT project_no, audit_no FROM audit_log;

-- By the right of the tables' owner: servers and workers cannot put anything into the queue themselves.
CREATE FUNCTION queue_for_sealing() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO audit_unsealed (project_no, audit_no) VALUES (NEW.project_no, NEW.audit_no);
    RETURN NULL;
END $$;
CREATE TRIGGER queue_for_sealing AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION queue_for_sealing();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_anchors
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Also for whoever replays changes of another database (session_replication_role).
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER queue_for_sealing;
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit_seals ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit_anchors ENABLE ALWAYS TRIGGER append_only;
