-- placeholder: what 0024 has of conversions, as far as policies are made of them.
CREATE TABLE conversions (
    project_no     int         NOT NULL,
    bucket         smallint    NOT NULL,
    subject_no     bigint      NOT NULL,
    enrollment_id  uuid        NOT NULL,
    step_id        text        COLLATE "C" NOT NULL,
    seq            int         NOT NULL,
    journey_id     text        COLLATE "C" NOT NULL,
    occurred_at    timestamptz NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, enrollment_id, step_id, seq)
);
SELECT guard_project('conversions', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE, DELETE');
GRANT UPDATE (bucket, subject_no, occurred_at, received_at) ON conversions TO orchestrator_api;
