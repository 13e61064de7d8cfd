-- Where the activity of an invocation waits for a worker; null: on the queue of the event's workflow. Of events that were
-- opened before, the manifest says it.
ALTER TABLE invocations ADD COLUMN task_queue text;
UPDATE invocations i SET task_queue = step ->> 'task_queue'
FROM events e, jsonb_array_elements(e.manifest -> 'runs') run,
     jsonb_array_elements((run -> 'steps') || coalesce(run -> 'failure_steps', '[]'::jsonb)) step
WHERE e.closed_at IS NULL AND i.event_id = e.id AND i.ended_at IS NULL AND i.id = (step ->> 'invocation_id')::uuid
  AND step ->> 'task_queue' IS NOT NULL;
CREATE INDEX invocations_open_of_queue ON invocations (task_queue, event_id)
    WHERE ended_at IS NULL AND task_queue IS NOT NULL;
