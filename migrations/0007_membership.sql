-- Membership of segments with rules: who is in, who came and went, and the runs that make sure of it.
-- Safe under load: new tables, and columns without a default that rewrites a table.

-- The segments a subject is in, those with rules only; lists stand in static_members.
CREATE TABLE subject_segments (
    project_no   int         NOT NULL,
    bucket       smallint    NOT NULL,
    subject_no   bigint      NOT NULL,
    segment_nos  int[]       NOT NULL,           -- ascending
    -- When time alone could change this, never too late; null: never.
    next_due     timestamptz,
    as_of        timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no)
) WITH (fillfactor = 80);
CREATE INDEX subject_segments_due ON subject_segments (next_due) WHERE next_due IS NOT NULL;
SELECT guard_project('subject_segments', 'SELECT, DELETE', 'SELECT, INSERT, UPDATE, DELETE');

-- Append-only: folded in order they are the membership.
CREATE TABLE segment_transitions (
    -- Not taken from a cache: of one subject they ascend in the order of what happened.
    transition_no  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_no     int         NOT NULL,
    bucket         smallint    NOT NULL,
    subject_no     bigint      NOT NULL,
    segment_no     int         NOT NULL,
    entered        boolean     NOT NULL,
    -- data: something happened to the subject; time: a window ran out; definition: the rules are new; backfill: the
    -- past has changed
    cause          text        NOT NULL CHECK (cause IN ('data', 'time', 'definition', 'backfill')),
    as_of          timestamptz NOT NULL
);
CREATE INDEX segment_transitions_subject ON segment_transitions (project_no, bucket, subject_no, transition_no);
SELECT guard_project('segment_transitions', 'SELECT, INSERT, DELETE', 'SELECT, INSERT, DELETE');

-- The size of a segment is the sum of these: one row for each transaction that changed it, so that nobody waits for a
-- counter; upkeep folds them into one.
CREATE TABLE segment_sizes (
    project_no  int     NOT NULL,
    segment_no  int     NOT NULL,
    delta       bigint  NOT NULL
);
CREATE INDEX segment_sizes_segment ON segment_sizes (project_no, segment_no) INCLUDE (delta);
SELECT guard_project('segment_sizes', 'SELECT, INSERT', 'SELECT, INSERT, DELETE');

-- Passes over a whole project. A queued row is a promise that a worker keeps.
CREATE TABLE segment_runs (
    run_no        bigint      GENERATED ALWAYS AS IDENTITY,
    project_no    int         NOT NULL,
    -- sweep: all segments, on schedule; evaluate: one, on request; build: all whose rules are new
    kind          text        NOT NULL CHECK (kind IN ('sweep', 'evaluate', 'build')),
    segment_no    int,                        -- evaluate only
    status        text        NOT NULL CHECK (status IN ('queued', 'running', 'done')),
    requested_at  timestamptz NOT NULL,
    -- Last told to Temporal.
    told_at       timestamptz,
    -- No part of the run looked at the world before this.
    snapshot_at   timestamptz,
    finished_at   timestamptz,
    -- build: segment_no → the revision of its rules when the run began
    revisions     jsonb,
    subjects      bigint      NOT NULL DEFAULT 0,
    entered       bigint      NOT NULL DEFAULT 0,
    departed      bigint      NOT NULL DEFAULT 0,
    -- sweep: memberships that were wrong although nothing was waiting to be worked on. Has to be 0.
    drift         bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (project_no, run_no),
    CONSTRAINT segment_runs_one CHECK ((kind = 'evaluate') = (segment_no IS NOT NULL))
);
-- At most one of a kind waits; who asks meanwhile shares it, since it has not looked at anything yet.
CREATE UNIQUE INDEX segment_runs_queued ON segment_runs (project_no, kind, coalesce(segment_no, 0)) WHERE status = 'queued';
CREATE INDEX segment_runs_open ON segment_runs (requested_at) WHERE status <> 'done';
SELECT guard_project('segment_runs', 'SELECT, INSERT', 'SELECT, INSERT, UPDATE, DELETE');

-- What a run has done, written with it: a part that is begun again goes on where it stopped.
CREATE TABLE segment_run_chunks (
    project_no    int       NOT NULL,
    run_no        bigint    NOT NULL,
    first_bucket  smallint  NOT NULL,
    last_bucket   smallint  NOT NULL,
    subjects      bigint    NOT NULL,
    drift         bigint    NOT NULL,
    -- {"segment_no": [entered, departed]}
    changes       jsonb     NOT NULL,
    PRIMARY KEY (project_no, run_no, first_bucket)
);
SELECT guard_project('segment_run_chunks', 'SELECT', 'SELECT, INSERT, DELETE');

ALTER TABLE segments
    -- Raised whenever who belongs to the segment is decided anew, by its own rules or by those of a cohort in them.
    ADD COLUMN rules_revision    int NOT NULL DEFAULT 1,
    -- The revision that every subject has been held against; less than rules_revision: building.
    ADD COLUMN built_revision    int,
    ADD COLUMN last_evaluated_at timestamptz,
    ADD COLUMN last_entered      bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_departed     bigint NOT NULL DEFAULT 0;
CREATE INDEX segments_unbuilt ON segments (project_no)
    WHERE predicate IS NOT NULL AND built_revision IS DISTINCT FROM rules_revision;
GRANT UPDATE ON segments TO orchestrator_worker;

ALTER TABLE inbox ADD COLUMN transition_nos bigint[];
ALTER TABLE inbox_dead ADD COLUMN transition_nos bigint[];

-- Lists are counted in the same way from now on.
INSERT INTO segment_sizes (project_no, segment_no, delta)
SELECT project_no, segment_no, count(*) FROM static_members GROUP BY project_no, segment_no;

-- What every project has: read-only segments. A project without subjects has nobody to hold against them.
CREATE FUNCTION provision_segments(project int, has_subjects boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO segments (project_no, segment_id, kind, name, description, predicate, created_at, updated_at, built_revision)
    SELECT project, id, 'system', name, description, predicate::jsonb, now, now,
           CASE WHEN has_subjects THEN NULL ELSE 1 END
      FROM date_trunc('milliseconds', clock_timestamp()) AS now, (VALUES
        ('everyone', 'Everyone', 'All subjects.',
         '{"kind": "everyone"}'),
        ('new_last_7_days', 'New in the last 7 days', 'Known for less than 7 days.',
         '{"kind": "attribute", "fieldPath": "$subject.created_at", "operator": "within", "value": {"days": 7}}'),
        ('active_last_30_days', 'Active in the last 30 days', 'An event of any name in the last 30 days.',
         '{"kind": "any_event", "window": {"type": "last_n_days", "days": 30}}'),
        ('dormant_90_days', 'Dormant for 90 days', 'Known for 90 days or more, and no event in the last 90 days.',
         '{"kind": "and", "clauses": [
            {"kind": "attribute", "fieldPath": "$subject.created_at", "operator": "not_within", "value": {"days": 90}},
            {"kind": "not", "clause": {"kind": "any_event", "window": {"type": "last_n_days", "days": 90}}}]}')
      ) AS system (id, name, description, predicate)
    ON CONFLICT DO NOTHING;
$$;
REVOKE ALL ON FUNCTION provision_segments FROM PUBLIC;

CREATE FUNCTION provision_project() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM provision_segments(NEW.project_no, false);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION provision_project FROM PUBLIC;
CREATE TRIGGER provision_project AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION provision_project();

-- Projects that are here already, whose subjects a worker holds against the new segments.
SELECT provision_segments(project_no, EXISTS (SELECT FROM subjects AS s WHERE s.project_no = p.project_no))
  FROM projects AS p;
INSERT INTO segment_runs (project_no, kind, status, requested_at)
SELECT DISTINCT project_no, 'build', 'queued', clock_timestamp() FROM segments
 WHERE predicate IS NOT NULL AND built_revision IS NULL;

-- Entering and leaving a segment starts journeys: a trigger contract names an event or a segment.
-- inbox.kind 'transitions': a pass over many moved the subject; transition_nos are those that a journey listens to, as
-- they are beside the kind 'membership', which tells of lists.
ALTER TABLE trigger_contracts
    ALTER COLUMN event_name DROP NOT NULL,
    -- By id: a segment that is made again under its id is the same to a contract.
    ADD COLUMN segment_id text COLLATE "C",
    ADD COLUMN transition text CHECK (transition IN ('entered', 'left')),
    ADD COLUMN include_definition_changes boolean NOT NULL DEFAULT false,
    -- Holds for every row there is.
    ADD CONSTRAINT trigger_contracts_one_kind CHECK (
        (event_name IS NULL) <> (segment_id IS NULL) AND (segment_id IS NULL) = (transition IS NULL)
        AND (segment_id IS NOT NULL OR NOT include_definition_changes));
