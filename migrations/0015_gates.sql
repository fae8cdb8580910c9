-- What holds off sends.
-- Safe under load: a new table, and a column with a default that rows are not rewritten for.

-- A row is a pause: of the project where `journey_id` is empty, else of that journey. Sends that come to it are held.
-- Whoever holds one shares the row, so that resuming, which deletes it, finds all that were held.
CREATE TABLE sends_pauses (
    project_no  int         NOT NULL,
    journey_id  text        COLLATE "C" NOT NULL,
    paused_at   timestamptz NOT NULL,
    PRIMARY KEY (project_no, journey_id)
);
SELECT guard_project('sends_pauses', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, UPDATE');

-- Whom a journey's closing is about: '' all that run, else those that are parked for this reason.
ALTER TABLE journey_closings
    ADD COLUMN parked text COLLATE "C" NOT NULL DEFAULT '',
    DROP CONSTRAINT journey_closings_pkey,
    ADD PRIMARY KEY (project_no, journey_id, parked);
-- Who asks again for those that are parked begins at the first.
GRANT UPDATE (bucket, subject_no, execution_id, requested_at) ON journey_closings TO orchestrator_api;
