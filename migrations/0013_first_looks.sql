-- While rules are new, whom they have met: who moves at a later look does so because something happened.
-- Safe under load: a new table, and columns without a default that rewrites anything.

-- Since when the rules are what they are: who came to be after that moves for no other reason than having come.
ALTER TABLE segments ADD COLUMN rules_since timestamptz NOT NULL DEFAULT now();

-- Segments being built that the subject was held against outside of passes: segment_no << 32 | rules_revision. No index.
ALTER TABLE subject_segments ADD COLUMN seen bigint[];

-- The same for everybody of a bucket, by a pass. Kept until the segment is built.
CREATE TABLE segment_looks (
    project_no      int       NOT NULL,
    segment_no      int       NOT NULL,
    bucket          smallint  NOT NULL,
    rules_revision  int       NOT NULL,
    PRIMARY KEY (project_no, segment_no, bucket)
);
SELECT guard_project('segment_looks', 'SELECT', 'SELECT, INSERT, UPDATE, DELETE');
