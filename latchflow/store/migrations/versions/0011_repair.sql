ALTER TABLE events
    ADD COLUMN rerun_of uuid;                           -- the event that this one repeats

-- Wishes to cancel. A row comes before Temporal is told, so that none is lost while Temporal is away.
CREATE TABLE cancellations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES events ON DELETE CASCADE,
    run_id uuid REFERENCES runs ON DELETE CASCADE,      -- null: the whole event
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz,                                -- Temporal knows, or has no such workflow
    UNIQUE NULLS NOT DISTINCT (event_id, run_id)
);
CREATE INDEX cancellations_untold ON cancellations (id) WHERE told_at IS NULL;

CREATE TABLE bulk_operations (
    id uuid PRIMARY KEY,
    operation text NOT NULL,                            -- cancel | rerun
    filter jsonb NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',                -- of a re-run: {from, definitions}
    limits jsonb,                                       -- what its starter sees; null: everything
    status text NOT NULL,
    rate_per_second double precision NOT NULL,
    total integer NOT NULL,
    done integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    last_error text,
    started_by text NOT NULL,
    caller jsonb NOT NULL,                              -- {tokenId, userId?}, for the audit
    created_at timestamptz NOT NULL DEFAULT now(),      -- later events are none of its
    start_confirmed_at timestamptz,
    cursor_fired_at timestamptz,                        -- the event that was taken last
    cursor_id uuid,
    next_at timestamptz NOT NULL DEFAULT now(),         -- before this, no other event is taken: the rate
    finished_at timestamptz
);
CREATE INDEX bulk_operations_open ON bulk_operations (created_at) WHERE finished_at IS NULL;
