ALTER TABLE effects
    ADD COLUMN content bytea,           -- SHA-256 of what it says; NULL: from before it was kept
    ADD COLUMN live_until timestamptz;  -- when the attempt that handed it over last can act no longer
