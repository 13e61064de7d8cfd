CREATE INDEX invocations_decided ON invocations (id) WHERE decision IS NOT NULL AND ended_at IS NULL;
