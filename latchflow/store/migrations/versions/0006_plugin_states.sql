ALTER TABLE plugins
    ADD COLUMN is_wanted boolean NOT NULL DEFAULT false;    -- an admin, or trust in its origin, enabled it
UPDATE plugins SET is_wanted = status IN ('ENABLED', 'FAILED');

ALTER TABLE plugin_instances
    ADD COLUMN since timestamptz NOT NULL DEFAULT now();    -- when the process came to this version and state

-- The code that checked the config last; the sweep looks at those that are not the plugin's own.
ALTER TABLE action_definitions ADD COLUMN checked_hash text NOT NULL DEFAULT '';
ALTER TABLE trigger_definitions ADD COLUMN checked_hash text NOT NULL DEFAULT '';
