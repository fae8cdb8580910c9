-- Which arms of adaptive branches subjects went by, and the policies by which they were chosen.
-- Safe under load: new tables only.

-- One row per choice, written once in the transaction that records the visit and decides what is next. Nothing is counted
-- when somebody is chosen for: whoever counts, counts these rows.
CREATE TABLE arm_choices (
    project_no      int         NOT NULL,
    bucket          smallint    NOT NULL,
    subject_no      bigint      NOT NULL,
    -- Whose choice it is: this execution's, at its decision `seq`.
    execution_id    uuid        NOT NULL,
    seq             int         NOT NULL,
    journey_id      text        COLLATE "C" NOT NULL,
    step_id         text        COLLATE "C" NOT NULL,
    version         int         NOT NULL,
    -- The goal that its enrollment is measured by.
    goal_revision   int         NOT NULL,
    -- For whom it holds: '', the subject, whenever it comes; else the id of an execution, or (`merged:` and one) nobody.
    unit            text        COLLATE "C" NOT NULL,
    -- The first is 0. Another one follows where the arm of the last is open no more; the last one holds.
    round           smallint    NOT NULL,
    arm_id          text        COLLATE "C" NOT NULL,
    -- In millionths, of the arm; and of each arm that was open, {"arm": 500000}: they add up to a million.
    propensity_ppm  int         NOT NULL CHECK (propensity_ppm BETWEEN 1 AND 1000000),
    propensities    jsonb       NOT NULL,
    -- Null: there was none, or none of use.
    policy_version  int,
    reason          text        NOT NULL,      -- domain/arm_choice.py: ChoiceReason
    -- 64 bits without a sign, made of the subject's id. Goes with the subject.
    draw            numeric(20) CHECK (draw BETWEEN 0 AND 18446744073709551615),
    -- The attributes that the policy looked at, by path; null: it looks at none. Goes with the subject.
    context         jsonb,
    chosen_at       timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, execution_id, seq),
    -- The last word on what holds; application/choosing.py decides before it comes to this.
    CONSTRAINT arm_choices_unit UNIQUE (project_no, bucket, subject_no, journey_id, step_id, unit, round)
);
-- As the decision log shows them, and policies are made of them.
CREATE INDEX arm_choices_newest ON arm_choices (project_no, journey_id, step_id, chosen_at DESC, execution_id);
SELECT guard_project('arm_choices', 'SELECT', 'SELECT, INSERT, DELETE');
-- As merging and deleting subjects need it.
GRANT UPDATE (bucket, subject_no, unit, draw, context) ON arm_choices TO orchestrator_api;

-- What a branch had learned at an instant. Never changed: whatever was chosen by it can be computed again.
CREATE TABLE policy_versions (
    project_no      int         NOT NULL,
    journey_id      text        COLLATE "C" NOT NULL,
    step_id         text        COLLATE "C" NOT NULL,
    policy_version  int         NOT NULL,      -- from 1, for each branch
    -- Of the journey: the one whose arms and rules these were.
    version         int         NOT NULL,
    -- The goal that it learned by.
    goal_revision   int         NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('shares', 'context')),
    -- orchestrator/learning/policy_document.py
    document        jsonb       NOT NULL,
    -- Of what it was learned from; and that itself, orchestrator/learning/triangle.py. Null: rows of subjects, who may
    -- be deleted.
    fingerprint     text        NOT NULL,
    triangle        jsonb,
    -- All that was recorded by then was looked at.
    data_cutoff_at  timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (project_no, journey_id, step_id, policy_version),
    CONSTRAINT policy_versions_triangle CHECK ((kind = 'shares') = (triangle IS NOT NULL))
);
SELECT guard_project('policy_versions', 'SELECT', 'SELECT, INSERT');

-- Journeys whose policies are to be made anew now, and not within the hour: somebody asked, or published other rules.
CREATE TABLE policy_requests (
    project_no    int         NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    -- The last time that it was asked for. The row goes when that has been done.
    requested_at  timestamptz NOT NULL,
    -- When Temporal was told of it; null: it has to be.
    told_at       timestamptz,
    PRIMARY KEY (project_no, journey_id)
);
SELECT guard_project('policy_requests', 'SELECT, INSERT, UPDATE', 'SELECT, INSERT, UPDATE, DELETE');
