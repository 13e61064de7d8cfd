ALTER TABLE effects
    ADD COLUMN written_by uuid;     -- who wrote it down as intended: one value for all repetitions of that write
