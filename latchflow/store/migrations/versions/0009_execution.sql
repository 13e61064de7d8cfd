ALTER TABLE pipeline_steps
    ALTER COLUMN action_id DROP NOT NULL,               -- delays and approvals use none
    ADD COLUMN for_each_expression text,
    ADD COLUMN max_parallel integer,
    ADD COLUMN wait jsonb,                              -- of a delay {for | until}, of an approval {approvers, timeout, onTimeout}
    ADD COLUMN is_failure_step boolean NOT NULL DEFAULT false;

ALTER TABLE invocations
    ALTER COLUMN action_id DROP NOT NULL,
    ALTER COLUMN action_version DROP NOT NULL,
    ADD COLUMN for_each_expression text,
    ADD COLUMN item_count integer,                      -- of a forEach, once it is known
    ADD COLUMN item_sealed bytea,                       -- of one of its items
    ADD COLUMN is_partial boolean NOT NULL DEFAULT false,
    ADD COLUMN wait jsonb,
    ADD COLUMN waiting_for text,                        -- time | callback | decision, while its status is WAITING
    ADD COLUMN decision jsonb,                          -- {decision, comment, by, at}
    ADD COLUMN claimed_turn integer NOT NULL DEFAULT 0; -- attempts of an earlier turn are refused

CREATE TABLE callbacks (
    token_hash bytea PRIMARY KEY,
    invocation_id uuid NOT NULL REFERENCES invocations ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    seen_at timestamptz,                                -- an attempt was made with it
    body_sealed bytea
);
CREATE INDEX ON callbacks (invocation_id);
CREATE INDEX callbacks_unseen ON callbacks (used_at) WHERE used_at IS NOT NULL AND seen_at IS NULL;
