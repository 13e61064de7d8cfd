"""What a step's expressions see, and what they make of it."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from latchflow.crypto import Keyring
from latchflow.expressions import ExpressionError
from latchflow.model import ActionTask
from latchflow.runtime.lifecycle.migrating import fitting_config
from latchflow.runtime.lifecycle.registry import LoadedAction
from latchflow.store import invocations, places
from latchflow.store.attempts import Task
from latchflow.store.database import Database


class Evaluator(Protocol):
    """Evaluates expressions within a time limit.

    Both raise `latchflow.expressions.ExpressionError`.
    """

    async def evaluate(self, source: str, variables: Mapping[str, Any]) -> Any:
        """The value of one expression."""
        ...

    async def evaluate_template(self, value: Any, variables: Mapping[str, Any]) -> Any:
        """The value with each of its strings replaced by what it evaluates to."""
        ...


class Scope:
    """Reads and evaluates for one worker."""

    def __init__(self, database: Database, keyring: Keyring, evaluator: Evaluator) -> None:
        self._database = database
        self._keyring = keyring
        self._evaluator = evaluator

    async def variables(self, task: ActionTask, row: Task) -> dict[str, Any]:
        """The variables of a step: ``event``, ``trigger``, ``pipeline`` and the outputs of the run's finished steps.

        Raises:
            SealError: One of them cannot be opened.
            UnavailableError: The database is away.
        """
        async with self._database.connection() as connection:
            outputs = await invocations.outputs_of_run(connection, task.run_id)
        context, steps = await asyncio.to_thread(self._open, row, outputs)
        return {
            "event": {
                "id": str(row.event_id),
                "triggerId": str(row.trigger_id),
                "scheduledFor": row.scheduled_for.isoformat() if row.scheduled_for else None,
                "firedAt": row.fired_at.isoformat(),
                "metadata": dict(row.metadata),
                "context": context,
            },
            "trigger": {"id": str(row.trigger_id), "name": row.trigger_name},
            "pipeline": {"id": str(task.pipeline_id), "name": task.pipeline_name},
            "steps": steps,
        }

    async def is_wanted(self, when: str, variables: Mapping[str, Any]) -> bool:
        """Whether a step's ``when`` lets it run.

        Raises:
            ExpressionError: It cannot be evaluated, or is neither true nor false.
        """
        answer = await self._evaluator.evaluate(when, variables)
        if not isinstance(answer, bool):
            raise ExpressionError(f"`when` must be true or false, {when!r} is {type(answer).__name__}")
        return answer

    async def config(self, row: Task, action: LoadedAction, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The definition's config, opened, as the loaded version takes it, its templates evaluated.

        Raises:
            ConfigError: The loaded version does not take it.
            LatchflowError: As `variables` and `is_wanted`.
        """
        place = places.action_config(row.action_id, row.plugin)
        saved = self._keyring.open_json(row.config_sealed, place)
        config: dict[str, Any] = dict(await fitting_config(action, saved, from_version=row.config_version))
        for name in action.template_names & config.keys():
            config[name] = await self._evaluator.evaluate_template(config[name], variables)
        return config

    async def payload(self, row: Task, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the step's ``input`` evaluates to, the same for every attempt; without one, the event's context.

        Raises as `variables` and `is_wanted`.
        """
        if row.input_template is None:
            context = self._keyring.open_json(row.context_sealed, places.event_context(row.event_id))
            return context if isinstance(context, dict) else {"value": context}
        place = places.invocation_input(row.invocation_id)
        if row.input_sealed is not None:
            kept: dict[str, Any] = self._keyring.open_json(row.input_sealed, place)
            return kept
        payload: dict[str, Any] = await self._evaluator.evaluate_template(row.input_template, variables)
        async with self._database.connection() as connection:
            await invocations.keep_input(connection, row.invocation_id, self._keyring.seal_json(payload, place))
        return payload

    def _open(self, row: Task, outputs: Mapping[str, tuple[Any, bytes]]) -> tuple[Any, dict[str, Any]]:
        context = self._keyring.open_json(row.context_sealed, places.event_context(row.event_id))
        steps = {
            name: {"output": self._keyring.open_json(sealed, places.invocation_output(invocation_id))}
            for name, (invocation_id, sealed) in outputs.items()
        }
        return context, steps
