-- Times are timestamptz. Columns named *_sealed hold envelopes of latchflow.crypto.
-- Statuses are text without a CHECK: latchflow.model is their one list, and old and new programs run side by side.

CREATE TABLE deployment (
    is_single boolean PRIMARY KEY DEFAULT true CHECK (is_single),
    temporal_reached text,          -- "address namespace" that some process has reached before
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO deployment DEFAULT VALUES;

CREATE TABLE processes (
    id uuid PRIMARY KEY,
    role text NOT NULL,             -- api | worker
    identity text NOT NULL,         -- pid@host, as Temporal and the attempts name it
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE plugins (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    display_name text NOT NULL,
    version text NOT NULL,
    status text NOT NULL,           -- DISCOVERED | ENABLED | DISABLED | FAILED
    error text,
    scopes text[] NOT NULL,
    granted_scopes text[] NOT NULL,
    code_hash text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE plugin_instances (
    process_id uuid NOT NULL REFERENCES processes ON DELETE CASCADE,
    plugin_id uuid NOT NULL REFERENCES plugins ON DELETE CASCADE,
    version text NOT NULL,
    code_hash text NOT NULL,
    PRIMARY KEY (process_id, plugin_id)
);

CREATE TABLE capabilities (
    id uuid PRIMARY KEY,
    plugin_id uuid NOT NULL REFERENCES plugins ON DELETE CASCADE,
    kind text NOT NULL,             -- TRIGGER | ACTION
    key text NOT NULL,
    display_name text NOT NULL,
    config_schema jsonb NOT NULL,
    scopes text[] NOT NULL,
    is_inline boolean NOT NULL DEFAULT false,
    is_present boolean NOT NULL DEFAULT true,   -- false: the installed version no longer brings it
    UNIQUE (plugin_id, kind, key)
);

CREATE TABLE trigger_definitions (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    capability_id uuid NOT NULL REFERENCES capabilities,
    config_sealed bytea NOT NULL,
    is_enabled boolean NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE action_definitions (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    capability_id uuid NOT NULL REFERENCES capabilities,
    config_sealed bytea NOT NULL,
    is_enabled boolean NOT NULL,
    retry_policy jsonb,
    timeout_seconds integer,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- What an event in flight goes on using after the definition changed or went away.
CREATE TABLE action_versions (
    action_id uuid NOT NULL,
    version integer NOT NULL,
    config_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (action_id, version)
);

CREATE TABLE pipelines (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    is_enabled boolean NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pipeline_triggers (
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    trigger_id uuid NOT NULL REFERENCES trigger_definitions,
    sort_order integer NOT NULL DEFAULT 0,
    is_enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (pipeline_id, trigger_id)
);
CREATE INDEX ON pipeline_triggers (trigger_id);

CREATE TABLE pipeline_steps (
    id uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    name text NOT NULL,
    kind text NOT NULL DEFAULT 'action',
    action_id uuid NOT NULL REFERENCES action_definitions,
    sort_order integer NOT NULL,
    is_enabled boolean NOT NULL DEFAULT true,
    when_expression text,
    input jsonb,
    on_failure text NOT NULL DEFAULT 'stop',
    retry_policy jsonb,
    timeout_seconds integer,
    UNIQUE (pipeline_id, name)
);
CREATE INDEX ON pipeline_steps (action_id);

CREATE TABLE events (
    id uuid PRIMARY KEY,
    trigger_id uuid NOT NULL,
    trigger_name text NOT NULL,
    status text NOT NULL,
    scheduled_for timestamptz,
    metadata jsonb NOT NULL,
    invoker text,
    context_sealed bytea NOT NULL,
    manifest jsonb NOT NULL,
    workflow_id text,               -- null: nothing was owed, so nothing was started
    fired_at timestamptz NOT NULL,
    start_confirmed_at timestamptz, -- until then the drainer owns the event, afterwards the closer
    next_check_at timestamptz,      -- when the closer looks next
    check_interval_seconds integer NOT NULL DEFAULT 60,
    is_stuck boolean NOT NULL DEFAULT false,
    closed_at timestamptz,
    closed_by text,                 -- workflow | closer | dispatch
    closed_reason text,
    deliveries integer NOT NULL DEFAULT 1
);
CREATE INDEX events_listing ON events (fired_at DESC, id DESC);
CREATE INDEX events_of_trigger ON events (trigger_id, fired_at DESC, id DESC);
CREATE INDEX events_unstarted ON events (fired_at) WHERE start_confirmed_at IS NULL AND closed_at IS NULL;
CREATE INDEX events_open ON events (next_check_at) WHERE start_confirmed_at IS NOT NULL AND closed_at IS NULL;

CREATE TABLE event_keys (
    trigger_id uuid NOT NULL,
    key_hash bytea NOT NULL,        -- SHA-256: keys may be long, and may be someone's data
    event_id uuid NOT NULL,
    body_hash bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trigger_id, key_hash)
);

CREATE TABLE runs (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    pipeline_id uuid NOT NULL,
    pipeline_name text NOT NULL,
    ordinal integer NOT NULL,
    status text NOT NULL,
    closed_at timestamptz
);
CREATE INDEX ON runs (event_id);

CREATE TABLE invocations (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    step_id uuid NOT NULL,
    step_name text NOT NULL,
    ordinal integer NOT NULL,
    item_index integer,
    kind text NOT NULL,
    action_id uuid NOT NULL,
    action_version integer NOT NULL,
    plugin text NOT NULL,
    capability_key text NOT NULL,
    status text NOT NULL,
    skipped_reason text,
    when_expression text,
    input_template jsonb,
    input_sealed bytea,             -- evaluated once, read by every later attempt
    output_sealed bytea,
    -- The claim: taken by an UPDATE, so that of two attempts that race, the later one by Temporal's count wins.
    claimed_by text,                -- workflow run id / activity id
    claimed_attempt integer NOT NULL DEFAULT 0,
    attempt_number integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    ended_at timestamptz,
    error jsonb                     -- {type, message} of the ending
);
CREATE INDEX ON invocations (event_id);
CREATE INDEX ON invocations (action_id);
CREATE INDEX invocations_unrouted ON invocations (id) WHERE status = 'UNROUTED';

CREATE TABLE attempts (
    workflow_run_id text NOT NULL,
    activity_id text NOT NULL,
    temporal_attempt integer NOT NULL,
    invocation_id uuid NOT NULL REFERENCES invocations ON DELETE CASCADE,
    number integer NOT NULL,
    phase text NOT NULL,
    is_lost boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    worker text NOT NULL,
    plugin_version text NOT NULL,
    code_hash text NOT NULL,
    progress jsonb,
    error jsonb,                    -- {type, message}
    PRIMARY KEY (workflow_run_id, activity_id, temporal_attempt),
    UNIQUE (invocation_id, number)
);

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,   -- SHA-256 of 256 random bits: nothing to guess, nothing to stretch
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE audit_entries (
    seq bigserial,
    "timestamp" timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,             -- trigger | action | service | admin | auth | crypto
    phase text,
    plugin_name text,
    capability_key text,
    trigger_definition_id uuid,
    trigger_event_id uuid,
    action_definition_id uuid,
    invocation_id uuid,
    attempt integer,
    actor text,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (seq)
) PARTITION BY RANGE (seq);
CREATE INDEX ON audit_entries (trigger_event_id, seq) WHERE trigger_event_id IS NOT NULL;
CREATE INDEX ON audit_entries (invocation_id, seq) WHERE invocation_id IS NOT NULL;
CREATE INDEX ON audit_entries (trigger_definition_id, seq) WHERE trigger_definition_id IS NOT NULL;
-- A net: an insert must never fail for want of a partition, or no attempt could report.
CREATE TABLE audit_entries_default PARTITION OF audit_entries DEFAULT;

-- Keeps two ranges of a million entries ahead of the newest. Owned by the owner; the application may call it.
CREATE FUNCTION ensure_audit_partitions() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    range_size CONSTANT bigint := 1000000;
    newest bigint := (SELECT last_value FROM public.audit_entries_seq_seq);
    first_range bigint := newest / range_size;
    n bigint;
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    FOR n IN first_range .. first_range + 2 LOOP
        IF to_regclass(format('public.audit_entries_%s', n)) IS NULL THEN
            EXECUTE format('CREATE TABLE public.audit_entries_%s PARTITION OF public.audit_entries FOR VALUES FROM (%s) TO (%s)',
                           n, n * range_size, (n + 1) * range_size);
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION ensure_audit_partitions() FROM PUBLIC;
SELECT ensure_audit_partitions();
