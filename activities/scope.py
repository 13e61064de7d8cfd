"""What a step's expressions see, and what they make of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from latchflow.crypto import Keyring
from latchflow.expressions import ExpressionError, steps_named
from latchflow.model import ActionTask
from latchflow.runtime.lifecycle.migrating import fitting_config
from latchflow.runtime.lifecycle.registry import LoadedAction
from latchflow.store import invocations, places
from latchflow.store.attempts import Task
from latchflow.store.database import Database
from latchflow.store.invocations import Ended


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

    async def variables(self, task: ActionTask, row: Task, sources: Any) -> dict[str, Any]:
        """The variables of a step: ``event``, ``trigger``, ``pipeline``, ``steps``, and of an item ``item, index``.

        Args:
            task: Whose.
            row: As it stands in Postgres.
            sources: The expressions that will be evaluated: only the steps they name are read.

        Raises:
            SealError: One of them cannot be opened.
            UnavailableError: The database is away.
        """
        names = steps_named(sources)
        ended: Sequence[Ended] = ()
        if names is None or names:
            async with self._database.connection() as connection:
                ended = await invocations.ended_of_run(connection, task.run_id, None if names is None else list(names))
        context, steps, item = await asyncio.to_thread(self._open, row, ended)
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
            **item,
        }

    async def evaluate(self, source: str, variables: Mapping[str, Any]) -> Any:
        """The value of one expression. Raises as `is_wanted`."""
        return await self._evaluator.evaluate(source, variables)

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
        assert row.action_id is not None  # noqa: S101 - a step that uses an action has it
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

    def _open(self, row: Task, ended: Sequence[Ended]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        context = self._keyring.open_json(row.context_sealed, places.event_context(row.event_id))
        steps: dict[str, Any] = {}
        for one in ended:
            if one.item_index is not None:
                steps[one.step_name]["output"].append(self._output(one))
                continue
            steps[one.step_name] = {"status": one.status.value}
            if one.error is not None:
                steps[one.step_name]["error"] = dict(one.error)
            if one.item_count is not None:
                steps[one.step_name]["output"] = []
            elif one.output_sealed is not None:
                steps[one.step_name]["output"] = self._output(one)
        item = {}
        if row.item_index is not None:
            value = self._keyring.open_json(row.item_sealed or b"", places.invocation_item(row.invocation_id))
            item = {"item": value, "index": row.item_index}
        return context, steps, item

    def _output(self, one: Ended) -> Any:
        """What it put out; null for an item that put out nothing."""
        if one.output_sealed is None:
            return None
        return self._keyring.open_json(one.output_sealed, places.invocation_output(one.id))
