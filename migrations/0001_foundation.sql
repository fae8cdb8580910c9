-- Roles, the instance, projects, API keys, stored answers of repeated requests, the audit log.
-- Safe under load: new tables only.
--
-- Names: `x_id` is what callers see (text), `x_no` a number that never leaves the database.
-- Every table of a project starts its keys with project_no and lives under row-level security:
-- the API's role sees one project at a time (app.project_no; 0 is the instance itself, which
-- opens projects and api_keys only); the workers' role sees all; neither owns a table.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_api') THEN
        CREATE ROLE orchestrator_api NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_worker') THEN
        CREATE ROLE orchestrator_worker NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- another database of this cluster is being migrated at the same moment
END $$;

-- Always granted, never asked about first: who makes a role is a member of it, yet from PostgreSQL 16 on may not become
-- it before this. An administrator who made the roles has granted them already.
DO $$
BEGIN
    GRANT orchestrator_api, orchestrator_worker TO CURRENT_USER;
EXCEPTION WHEN insufficient_privilege OR unique_violation THEN
    NULL;
END $$;

GRANT USAGE ON SCHEMA public TO orchestrator_api, orchestrator_worker;

-- Puts a table under row-level security. Every table with a project_no goes through here.
CREATE FUNCTION guard_project(guarded regclass, api_may text, worker_may text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', guarded);
    EXECUTE format(
        'CREATE POLICY one_project ON %s TO orchestrator_api '
        'USING (project_no = current_setting(''app.project_no'')::int)', guarded);
    EXECUTE format('CREATE POLICY every_project ON %s TO orchestrator_worker USING (true)', guarded);
    EXECUTE format('GRANT %s ON %s TO orchestrator_api', api_may, guarded);
    EXECUTE format('GRANT %s ON %s TO orchestrator_worker', worker_may, guarded);
END $$;

-- One row: the secret behind key digests and subject refs.
CREATE TABLE instance (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    secret      bytea       NOT NULL CHECK (length(secret) >= 32),
    created_at  timestamptz NOT NULL
);
INSERT INTO instance (secret, created_at)
VALUES (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), clock_timestamp());
GRANT SELECT ON instance TO orchestrator_api, orchestrator_worker;

CREATE TABLE projects (
    project_no          int         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id          text        COLLATE "C" NOT NULL,
    name                text        NOT NULL,
    -- domain/project.py: ProjectSettings
    settings            jsonb       NOT NULL DEFAULT '{}',
    -- Raised by every change of a definition; consumers compare it before they trust their cache.
    definitions_version bigint      NOT NULL DEFAULT 1,
    revision            bigint      NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    CONSTRAINT projects_id_key UNIQUE (project_id)
);
ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_or_instance ON projects TO orchestrator_api
    USING (current_setting('app.project_no')::int IN (0, project_no));
CREATE POLICY every_project ON projects TO orchestrator_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON projects TO orchestrator_api;
GRANT SELECT ON projects TO orchestrator_worker;

CREATE TABLE api_keys (
    project_no    int         NOT NULL,  -- 0: the operator's key
    api_key_id    text        COLLATE "C" NOT NULL,
    name          text        NOT NULL,
    role          text        NOT NULL CHECK (role IN ('viewer', 'editor', 'admin', 'owner', 'operator')),
    -- HMAC-SHA256(instance.secret, key): the key itself is shown once and kept nowhere.
    digest        bytea       NOT NULL,
    -- The first characters of the key, by which people tell keys apart.
    prefix        text        NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz,
    revoked_at    timestamptz,
    -- Written at most once a minute.
    last_used_at  timestamptz,
    -- The key this one took over from; both are valid until the older one expires.
    rotated_from  text,
    PRIMARY KEY (project_no, api_key_id),
    CONSTRAINT api_keys_digest_key UNIQUE (digest)
);
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_or_instance ON api_keys TO orchestrator_api
    USING (current_setting('app.project_no')::int IN (0, project_no));
GRANT SELECT, INSERT, UPDATE ON api_keys TO orchestrator_api;

-- The stored answer of a mutating request, written in the transaction of its effect; kept for 7 days.
CREATE TABLE idempotency (
    project_no   int         NOT NULL,
    principal    text        COLLATE "C" NOT NULL,
    method       text        COLLATE "C" NOT NULL,
    request_id   text        COLLATE "C" NOT NULL,
    fingerprint  bytea       NOT NULL,
    response     bytea,                     -- null only inside the transaction that makes it
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (project_no, principal, method, request_id)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
SELECT guard_project('idempotency', 'SELECT, INSERT, UPDATE', 'SELECT, DELETE');

-- Who did what. Append-only: no role may change or remove a row.
CREATE TABLE audit_log (
    project_no     int         NOT NULL,
    audit_no       bigint      GENERATED ALWAYS AS IDENTITY,
    at             timestamptz NOT NULL,
    -- key:<api_key_id>, internal, operator, runtime
    actor          text        NOT NULL,
    -- The catalogue is domain/audit.py.
    action         text        NOT NULL,
    resource_kind  text        NOT NULL,
    resource_id    text        NOT NULL,
    metadata       jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (project_no, audit_no)
);
CREATE INDEX audit_log_resource ON audit_log (project_no, resource_kind, resource_id, audit_no DESC);
SELECT guard_project('audit_log', 'SELECT, INSERT', 'SELECT, INSERT');
