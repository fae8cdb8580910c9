-- What people write: audiences, segments, communications, trigger contracts, journeys.
-- Safe under load: new tables only.
--
-- Predicates and graphs are stored in the form they were sent in (docs/predicates.md, docs/journeys.md).

CREATE TABLE audiences (
    project_no    int         NOT NULL,
    audience_id   text        COLLATE "C" NOT NULL,
    name          text        NOT NULL,
    description   text        NOT NULL DEFAULT '',
    subject_type  text        NOT NULL DEFAULT 'end_user',
    predicate     jsonb       NOT NULL,
    revision      bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, audience_id)
);
CREATE INDEX audiences_newest ON audiences (project_no, created_at, audience_id);
SELECT guard_project('audiences', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT');

CREATE TABLE segments (
    project_no    int         NOT NULL,
    segment_id    text        COLLATE "C" NOT NULL,
    segment_no    int         GENERATED ALWAYS AS IDENTITY,
    kind          text        NOT NULL CHECK (kind IN ('static', 'dynamic', 'system')),
    name          text        NOT NULL,
    description   text        NOT NULL DEFAULT '',
    predicate     jsonb,                     -- null: a static list
    revision      bigint      NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, segment_id),
    CONSTRAINT segments_no_key UNIQUE (project_no, segment_no),
    CONSTRAINT segments_rules CHECK ((kind = 'static') = (predicate IS NULL))
);
CREATE INDEX segments_newest ON segments (project_no, created_at, segment_id);
SELECT guard_project('segments', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT');

CREATE TABLE static_members (
    project_no  int         NOT NULL,
    bucket      smallint    NOT NULL,
    subject_no  bigint      NOT NULL,
    segment_no  int         NOT NULL,
    added_at    timestamptz NOT NULL,
    PRIMARY KEY (project_no, bucket, subject_no, segment_no)
);
CREATE INDEX static_members_segment ON static_members (project_no, segment_no, subject_no);
SELECT guard_project('static_members', 'SELECT, INSERT, DELETE', 'SELECT, INSERT, DELETE');

CREATE TABLE communications (
    project_no        int         NOT NULL,
    communication_id  text        COLLATE "C" NOT NULL,
    name              text        NOT NULL,
    channel           text        COLLATE "C" NOT NULL,
    category          text        NOT NULL CHECK (category IN ('marketing', 'transactional')),
    content_revision  int         NOT NULL,
    revision          bigint      NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    PRIMARY KEY (project_no, communication_id)
);
CREATE INDEX communications_newest ON communications (project_no, created_at, communication_id);
SELECT guard_project('communications', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT');

-- What was to be sent, as it was: a published journey names a revision, and revisions outlive their communication.
CREATE TABLE communication_revisions (
    project_no        int         NOT NULL,
    communication_id  text        COLLATE "C" NOT NULL,
    content_revision  int         NOT NULL,
    -- channel, category, subject, body, settings: domain/communication.py
    content           jsonb       NOT NULL,
    created_at        timestamptz NOT NULL,
    PRIMARY KEY (project_no, communication_id, content_revision)
);
SELECT guard_project('communication_revisions', 'SELECT, INSERT', 'SELECT');

CREATE TABLE trigger_contracts (
    project_no           int         NOT NULL,
    trigger_contract_id  text        COLLATE "C" NOT NULL,
    name                 text        NOT NULL,
    event_name           text        NOT NULL,
    predicate            jsonb,                -- over the event's properties; null: every such event
    entry_key_path       text,                 -- a path into the event's properties; null: the event id
    max_event_age        interval    NOT NULL DEFAULT '24 hours',
    revision             bigint      NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    PRIMARY KEY (project_no, trigger_contract_id)
);
CREATE INDEX trigger_contracts_newest ON trigger_contracts (project_no, created_at, trigger_contract_id);
SELECT guard_project('trigger_contracts', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT');

CREATE TABLE journeys (
    project_no      int         NOT NULL,
    journey_id      text        COLLATE "C" NOT NULL,
    name            text        NOT NULL,
    description     text        NOT NULL DEFAULT '',
    status          text        NOT NULL CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    -- archived: what becomes of running executions, finish or end
    on_archive      text        CHECK (on_archive IN ('finish', 'end')),
    -- The definition being edited (domain/journey.py); null when there is none.
    draft           jsonb,
    latest_version  int,                       -- null: never published
    goal_revision   int         NOT NULL DEFAULT 0,
    revision        bigint      NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (project_no, journey_id),
    CONSTRAINT journeys_archive CHECK ((status = 'archived') = (on_archive IS NOT NULL))
);
CREATE INDEX journeys_newest ON journeys (project_no, created_at DESC, journey_id);
SELECT guard_project('journeys', 'SELECT, INSERT, UPDATE, DELETE', 'SELECT, UPDATE');

-- Written once by publish, never changed.
CREATE TABLE journey_versions (
    project_no    int         NOT NULL,
    journey_id    text        COLLATE "C" NOT NULL,
    version       int         NOT NULL,
    definition    jsonb       NOT NULL,
    -- {"communication_id": {"content_revision": 3, "channel": "log", "category": "marketing"}}, pinned at publish
    pinned        jsonb       NOT NULL,
    sha256        bytea       NOT NULL,
    published_at  timestamptz NOT NULL,
    published_by  text        NOT NULL,
    PRIMARY KEY (project_no, journey_id, version)
);
SELECT guard_project('journey_versions', 'SELECT, INSERT, DELETE', 'SELECT');

-- Which event counts as conversion, and for how long after the trigger. An enrollment keeps the revision it came in under.
CREATE TABLE journey_goals (
    project_no   int         NOT NULL,
    journey_id   text        COLLATE "C" NOT NULL,
    goal_revision int        NOT NULL,
    event_name   text,                          -- null: no goal
    goal_window  interval    NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (project_no, journey_id, goal_revision)
);
SELECT guard_project('journey_goals', 'SELECT, INSERT, DELETE', 'SELECT');
