CREATE INDEX invocations_of_run ON invocations (run_id, step_id);
