ALTER TABLE attempts
    ADD COLUMN is_counted boolean NOT NULL DEFAULT true;  -- against the policy's maximum
ALTER TABLE effects
    ADD COLUMN code_hash text;  -- of the code that said it; NULL: from before it was kept
