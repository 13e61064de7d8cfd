CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    role text NOT NULL,                         -- ADMIN | EXECUTOR
    status text NOT NULL,                       -- INVITED | ACTIVE | DISABLED
    trigger_ids uuid[] NOT NULL DEFAULT '{}',   -- what an EXECUTOR sees: the events of these triggers,
    pipeline_ids uuid[] NOT NULL DEFAULT '{}',  -- and those with a run of these pipelines
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
-- Unique however it is written; the order of the listing, too.
CREATE UNIQUE INDEX users_email ON users ((lower(email) COLLATE "C"));

CREATE TABLE invitations (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,           -- SHA-256 of 256 random bits
    effect_key text NOT NULL,                   -- of its mail: equal for all attempts at it
    mail text NOT NULL DEFAULT 'sending',       -- sending | sent | failed | unknown
    problem text,                               -- why the mail failed
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX invitations_of_user ON invitations (user_id, created_at DESC);

-- A personal token: what it may do follows its user at every call.
ALTER TABLE tokens ADD COLUMN user_id uuid REFERENCES users ON DELETE CASCADE;
CREATE INDEX tokens_of_user ON tokens (user_id) WHERE user_id IS NOT NULL;
-- Who made a token with a personal one: it may never do more than they.
ALTER TABLE tokens ADD COLUMN owner_id uuid REFERENCES users ON DELETE CASCADE;
CREATE INDEX tokens_of_owner ON tokens (owner_id) WHERE owner_id IS NOT NULL;

-- Whether an event has a run of one of an EXECUTOR's pipelines.
CREATE INDEX runs_of_pipeline ON runs (pipeline_id, event_id);
