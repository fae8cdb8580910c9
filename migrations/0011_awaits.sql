-- What executions wait for and leave for, so that whoever learns of it finds them.
-- Safe under load: columns without a default, and an index over rows of which there are none yet; writers of executions
-- wait while it is made, which takes one look at the table (about 2 s for 10 million rows).

SET LOCAL statement_timeout = '10min';

ALTER TABLE executions
    -- Of the attribute whose change it waits for: a digest of the value on arrival (domain/execution.py: Position).
    ADD COLUMN mark text,
    -- What can happen to its subject that makes it go on, or leave, where it stands (domain/conditions.py: topics); null:
    -- nothing. Executions that run already stand on steps of kinds that wait for time alone.
    ADD COLUMN awaits text[];

-- Executions that await nothing are not in it, and as long as that does not change, updates of theirs stay in their page.
CREATE INDEX executions_awaiting ON executions (project_no, bucket, subject_no)
    WHERE awaits IS NOT NULL AND outcome IS NULL;
