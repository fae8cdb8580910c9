-- Journeys that end their executions, what the deletion of a subject erases, and rights that nobody uses.
-- Safe under load: a new table and grants; writers of executions wait while their open ones are indexed anew, which
-- takes one look at the table (about 2 s for 10 million rows).

SET LOCAL statement_timeout = '10min';

-- Journeys whose running executions are to end: archived so, or deleted. A worker has them look again, some at a time,
-- and deletes the row when all have been told.
CREATE TABLE journey_closings (
    project_no    int         NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    -- Those up to here have been told.
    bucket        smallint    NOT NULL DEFAULT -1,
    subject_no    bigint      NOT NULL DEFAULT 0,
    execution_id  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    requested_at  timestamptz NOT NULL,
    PRIMARY KEY (project_no, journey_id)
);
SELECT guard_project('journey_closings', 'SELECT, INSERT', 'SELECT, UPDATE, DELETE');

-- In the order in which they are told.
DROP INDEX executions_open;
CREATE INDEX executions_open ON executions (project_no, journey_id, bucket, subject_no, execution_id)
    WHERE outcome IS NULL;

-- Deleting a subject leaves what journeys recorded, without what says whose it was.
GRANT UPDATE (entry, entry_key) ON enrollments TO orchestrator_api;
REVOKE UPDATE ON executions FROM orchestrator_api;
GRANT UPDATE (workflow_id) ON executions TO orchestrator_api;
GRANT UPDATE (provider_id) ON sends TO orchestrator_api;
GRANT DELETE ON log_messages, inbox_dead, outbox, outbox_dead TO orchestrator_api;

-- Never used.
REVOKE UPDATE ON opt_outs FROM orchestrator_api;
REVOKE DELETE ON journey_versions, journey_goals, refusal_counts FROM orchestrator_api;
