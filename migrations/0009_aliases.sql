-- Subjects that were merged into others: their ids, and the numbers by which their executions go on asking.
-- Safe under load: a new table; rights; and a check of segment_transitions that is replaced without reading the table.

CREATE TABLE subject_aliases (
    project_no    int       NOT NULL,
    -- What was merged: the id and the key that it had.
    alias_bucket  smallint  NOT NULL,
    alias_id      text      COLLATE "C" NOT NULL,
    alias_no      bigint    NOT NULL,
    -- Into whom: always a subject that is there, never another alias.
    bucket        smallint  NOT NULL,
    subject_no    bigint    NOT NULL,
    merged_at     timestamptz NOT NULL,
    PRIMARY KEY (project_no, alias_bucket, alias_id),
    CONSTRAINT subject_aliases_no_key UNIQUE (project_no, alias_bucket, alias_no)
);
CREATE INDEX subject_aliases_subject ON subject_aliases (project_no, bucket, subject_no);
SELECT guard_project('subject_aliases', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT');

-- A merge gives what one subject has to another: keys change, and nothing else.
GRANT UPDATE (bucket, subject_no) ON events, inbox, inbox_dead, enrollments, executions, visits, sends, log_messages, outbox,
    outbox_dead TO orchestrator_api;
-- Who refused something goes on refusing it, under another key.
GRANT UPDATE ON opt_outs, suppressions TO orchestrator_api;
-- An entry key that both subjects have had is made unique.
GRANT UPDATE (entry_key) ON enrollments TO orchestrator_api;
GRANT INSERT, UPDATE ON subject_segments TO orchestrator_api;
GRANT INSERT ON segment_transitions TO orchestrator_api;

-- merge: the subject was merged with one who is in the segment
ALTER TABLE segment_transitions DROP CONSTRAINT segment_transitions_cause_check;
ALTER TABLE segment_transitions ADD CONSTRAINT segment_transitions_cause_check
    CHECK (cause IN ('data', 'time', 'definition', 'backfill', 'merge')) NOT VALID;
