-- Kinds of events (`where`) that nothing asks about any more are given up: no longer counted, and what was counted goes.
-- Safe under load: a new table and two rights. Servers of an older release may go on counting a kind that was given up
-- while they run; what they count is never looked at.

-- Numbers whose counts and copies are still to be removed.
CREATE TABLE given_up_kinds (
    project_no   int         NOT NULL,
    name_no      int         NOT NULL,
    given_up_at  timestamptz NOT NULL,
    PRIMARY KEY (project_no, name_no)
);
SELECT guard_project('given_up_kinds', 'SELECT', 'SELECT, INSERT, DELETE');
GRANT DELETE ON derived_events TO orchestrator_worker;
-- Who gives up kinds holds the project's definitions meanwhile.
GRANT UPDATE (definitions_version) ON projects TO orchestrator_worker;
