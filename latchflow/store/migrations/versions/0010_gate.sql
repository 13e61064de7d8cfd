ALTER TABLE trigger_definitions
    ADD COLUMN overlap text NOT NULL DEFAULT 'allow_all',
    ADD COLUMN max_running_events integer;

ALTER TABLE deployment
    ADD COLUMN is_paused boolean NOT NULL DEFAULT false,
    ADD COLUMN pause_reason text,                       -- these three of the last change, also of a resume
    ADD COLUMN pause_by text,
    ADD COLUMN pause_at timestamptz;

ALTER TABLE events
    ADD COLUMN gate_verdict text,                       -- run | wait | skip; null: nothing was owed
    ADD COLUMN gate_reason text,
    ADD COLUMN is_waiting boolean NOT NULL DEFAULT false, -- for its turn: neither drainer nor closer looks at it
    ADD COLUMN released_at timestamptz,                 -- when its turn came, after it had waited
    ADD COLUMN cancel_wanted_at timestamptz,            -- a newer event took its place
    ADD COLUMN cancel_asked_at timestamptz;             -- Temporal knows of that

DROP INDEX events_unstarted;
CREATE INDEX events_unstarted ON events (coalesce(released_at, fired_at))
    WHERE start_confirmed_at IS NULL AND closed_at IS NULL AND NOT is_waiting AND cancel_wanted_at IS NULL;
CREATE INDEX events_waiting ON events (trigger_id, fired_at, id)
    WHERE is_waiting AND closed_at IS NULL AND cancel_wanted_at IS NULL;
CREATE INDEX events_let_in ON events (trigger_id) WHERE NOT is_waiting AND closed_at IS NULL;
CREATE INDEX events_to_cancel ON events (cancel_wanted_at)
    WHERE cancel_wanted_at IS NOT NULL AND cancel_asked_at IS NULL AND closed_at IS NULL;
