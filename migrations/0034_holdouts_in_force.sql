-- Which share the project held out when somebody was triggered: with another one, sides of another time are compared.
-- Safe under load: two columns that stand in no row yet; and an index in the place of another, for which those who enroll wait
-- (about 2 s for a million rows).

SET LOCAL statement_timeout = '30min'; -- The ledger may be large: the index is built from all of it.
-- Percent 0: nobody was. Null: an enrollment of before this was recorded, which nobody can tell any more. The journey's own
-- holdout is that of the version.
ALTER TABLE enrollments ADD COLUMN global_percent smallint, ADD COLUMN global_salt text COLLATE "C";

-- As enrollments_triggered, and with what was in force, so that first triggers are still found by the index alone.
CREATE INDEX enrollments_firsts ON enrollments (project_no, journey_id, bucket, subject_no, triggered_at, enrollment_id)
    INCLUDE (version, goal_revision, held_out_by, global_percent, global_salt);
DROP INDEX enrollments_triggered;
