-- Effects outside: one row for each, shared by all attempts of its invocation.
CREATE TABLE effects (
    invocation_id uuid NOT NULL REFERENCES invocations ON DELETE CASCADE,
    service text NOT NULL,
    ordinal integer NOT NULL,       -- place among the attempt's calls of the service, the same in every attempt
    target bytea NOT NULL,          -- SHA-256 of what it goes to
    state text NOT NULL,            -- intended | done | failed
    via text,                       -- the provider it was handed to last
    attempt integer NOT NULL,       -- the attempt that wrote the row last
    result_sealed bytea,
    intended_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (invocation_id, service, ordinal)
);

ALTER TABLE action_definitions
    ADD COLUMN on_unknown text NOT NULL DEFAULT 'fail',     -- fail | resend
    ADD COLUMN plugin_version text NOT NULL DEFAULT '',     -- the version that checked the config last
    ADD COLUMN invalid_config text;                         -- why the installed version does not take the config
ALTER TABLE action_versions
    ADD COLUMN on_unknown text NOT NULL DEFAULT 'fail',
    ADD COLUMN plugin_version text NOT NULL DEFAULT '';
ALTER TABLE trigger_definitions
    ADD COLUMN plugin_version text NOT NULL DEFAULT '',
    ADD COLUMN invalid_config text;

-- An action that answered Pending: handed to `resume` by the next attempt.
ALTER TABLE invocations
    ADD COLUMN pending_sealed bytea,
    ADD COLUMN pending_deadline timestamptz;

ALTER TABLE capabilities
    ADD COLUMN shape text NOT NULL DEFAULT 'action',        -- action | inbound | scheduled | resident
    ADD COLUMN stall_timeout_seconds double precision;
UPDATE capabilities SET shape = 'inbound' WHERE kind = 'TRIGGER';

CREATE TABLE providers (
    plugin_id uuid NOT NULL REFERENCES plugins ON DELETE CASCADE,
    kind text NOT NULL,             -- email | storage
    id text NOT NULL,
    display_name text NOT NULL,
    config_schema jsonb NOT NULL,
    defaults jsonb NOT NULL,        -- property -> environment variable
    is_present boolean NOT NULL DEFAULT true,
    PRIMARY KEY (plugin_id, id)
);

ALTER TABLE plugin_instances
    ADD COLUMN state text NOT NULL DEFAULT 'loaded',        -- loaded | failed
    ADD COLUMN error text,
    ADD COLUMN stats jsonb NOT NULL DEFAULT '{}';           -- per capability: counts by phase, durations, last error
ALTER TABLE processes
    ADD COLUMN stats jsonb NOT NULL DEFAULT '{}';           -- threads left over, plugin loops replaced
