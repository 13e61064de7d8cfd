"""What a step's expressions see, and whether its ``when`` lets it run."""

from collections.abc import Mapping
from typing import Any

from latchflow import expressions
from latchflow.crypto import Keyring
from latchflow.model import ActionTask
from latchflow.store import attempts, places
from latchflow.store.attempts import Task
from latchflow.store.database import Connection


async def variables_of(connection: Connection, keyring: Keyring, task: ActionTask, row: Task) -> dict[str, Any]:
    """The variables of a step: ``event``, ``trigger``, ``pipeline`` and the outputs of the run's finished steps."""
    outputs = await attempts.outputs_of_run(connection, task.run_id)
    return {
        "event": {
            "id": str(row.event_id),
            "triggerId": str(row.trigger_id),
            "scheduledFor": row.scheduled_for.isoformat() if row.scheduled_for else None,
            "firedAt": row.fired_at.isoformat(),
            "metadata": dict(row.metadata),
            "context": context_of(keyring, row),
        },
        "trigger": {"id": str(row.trigger_id), "name": row.trigger_name},
        "pipeline": {"id": str(task.pipeline_id), "name": task.pipeline_name},
        "steps": {
            name: {"output": keyring.open_json(sealed, places.invocation_output(invocation_id))}
            for name, (invocation_id, sealed) in outputs.items()
        },
    }


def context_of(keyring: Keyring, row: Task) -> Any:
    """The context the event came with."""
    return keyring.open_json(row.context_sealed, places.event_context(row.event_id))


def is_wanted(when: str, variables: Mapping[str, Any]) -> bool:
    """Whether a step's ``when`` lets it run.

    Raises:
        ExpressionError: It cannot be evaluated, or is neither true nor false.
    """
    answer = expressions.evaluate(when, variables)
    if not isinstance(answer, bool):
        raise expressions.ExpressionError(f"`when` must be true or false, {when!r} is {type(answer).__name__}")
    return answer
