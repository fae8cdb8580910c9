-- What is left of subjects that were deleted is removed in the background where it is much: a deletion holds off ingest.
-- Safe under load: a new table.

CREATE TABLE deleted_subjects (
    project_no  int         NOT NULL,
    bucket      smallint    NOT NULL,
    -- Nobody's any more; numbers are not given twice.
    subject_no  bigint      NOT NULL,
    deleted_at  timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no)
);
SELECT guard_project('deleted_subjects', 'SELECT, INSERT', 'SELECT, DELETE, UPDATE');
