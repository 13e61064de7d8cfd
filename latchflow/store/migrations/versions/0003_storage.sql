CREATE TABLE bundles (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    description text NOT NULL DEFAULT '',
    is_enabled boolean NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE bundle_objects (
    bundle_id uuid NOT NULL REFERENCES bundles ON DELETE CASCADE,
    path text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL,
    content_type text NOT NULL,
    provider text NOT NULL,         -- who holds the content, whichever provider is active by now
    storage_key text NOT NULL,      -- under which it holds it; made anew for every upload, never used twice
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (bundle_id, path),
    UNIQUE (provider, storage_key)
);

-- Keys under which a provider may hold something that belongs to no object: an upload in progress, what one left that
-- was cut off, what was replaced or deleted.
CREATE TABLE storage_uploads (
    provider text NOT NULL,
    storage_key text NOT NULL,
    remove_after timestamptz NOT NULL,          -- an upload that lives pushes it forward
    is_doomed boolean NOT NULL DEFAULT false,   -- being removed: nothing can make an object of it any more
    PRIMARY KEY (provider, storage_key)
);
CREATE INDEX ON storage_uploads (remove_after);

CREATE TABLE release_links (
    id uuid PRIMARY KEY,
    bundle_id uuid NOT NULL REFERENCES bundles ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,           -- SHA-256
    idempotency_key text UNIQUE,                -- of the service call that made it
    max_downloads integer,
    downloads integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX ON release_links (bundle_id, created_at, id);
CREATE INDEX ON release_links (expires_at);
