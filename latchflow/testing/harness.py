"""`Harness`: a plugin from its folder, called by the real invoker through the real guard, without a server."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from structlog.testing import capture_logs

from latchflow.config_schemas import check_config
from latchflow.expressions import evaluate_template
from latchflow.runtime.contract import ContractError
from latchflow.runtime.guard import Backends, Grant, GuardedServices, guarded_callback_url
from latchflow.runtime.invoking.configs import config_of
from latchflow.runtime.invoking.inbound import read_request
from latchflow.runtime.invoking.invoker import Call, Result, Resumption, Success, Waiting, invoke
from latchflow.runtime.lifecycle.registry import Configured, LoadedAction, Registry
from latchflow.runtime.loader.discovery import PluginSource, read_source
from latchflow.runtime.loader.probe import check
from latchflow.sdk import Callback, Emit, InboundRequest, Invocation, Reject, Schedule
from latchflow.testing.backends import Services
from latchflow.testing.host import HostLoop
from latchflow.testing.records import MemoryRecords
from latchflow.testing.residents import Listening
from latchflow.testing.runs import ActionRun


class Harness:
    """A loaded plugin and what surrounds its calls; made by `plugin_under_test`.

    Attributes:
        services: What the plugin's calls reach, to look at and to prepare.
        records: What is on record of service calls and effects; shared by all attempts.
    """

    def __init__(self, source: PluginSource, registry: Registry, host: HostLoop) -> None:
        self.source = source
        self.registry = registry
        self.host = host
        self.services = Services()
        self.records = MemoryRecords()
        self._waiting: dict[UUID, tuple[Waiting, Counter[str]]] = {}

    @property
    def module_name(self) -> str:
        """What the plugin's package is called in ``sys.modules``."""
        return f"lp_{self.source.code_hash[:16]}"

    def run(
        self,
        key: str,
        *,
        config: Mapping[str, Any] | None = None,
        payload: Mapping[str, Any] | None = None,
        is_payload_from_input: bool = True,
        context: Any = None,
        invocation_id: UUID | None = None,
        timeout_seconds: float = 10,
        backends: Backends | None = None,
        callback: Callback | None = None,
    ) -> ActionRun:
        """Make one attempt of an action.

        Args:
            key: Of the action.
            config: As an admin would save it, secrets and expressions included.
            payload: What the step's ``input`` would have evaluated to.
            is_payload_from_input: False: the payload is an event's raw context.
            context: ``event.context`` for the expressions of the config.
            invocation_id: Give the id of an earlier run to make another attempt at the same invocation: what that
                has done is not done again, and one that waits is resumed, at once.
            timeout_seconds: Of the attempt.
            backends: Instead of `services`.
            callback: With the id of an invocation that waits: what was sent to an address of `call.callback_url`.

        Raises:
            InvalidInputError: The config does not satisfy the capability's schema.
            ValueError: There is a callback, and the invocation does not wait.
        """
        if callback is not None and invocation_id not in self._waiting:
            raise ValueError("Only an invocation that waits is called back: give the id of a run that is Pending.")
        action = self.registry.actions[self.source.name, key]
        whole = self.config(action, config, context)
        progress: list[Any] = []
        first_call = len(self.records.calls)
        with capture_logs() as logs:
            result = self.host.run(
                self.invoke(
                    action,
                    backends or self.services.backends,
                    config=whole,
                    payload=deepcopy(dict(payload or {})),
                    is_payload_from_input=is_payload_from_input,
                    invocation_id=invocation_id or uuid4(),
                    timeout_seconds=timeout_seconds,
                    progress=progress,
                    callback=callback,
                )
            )
        return ActionRun(result=result, calls=self.records.calls[first_call:], progress=progress, logs=list(logs))

    def deliver(
        self,
        key: str,
        *,
        config: Mapping[str, Any] | None = None,
        body: bytes = b"",
        method: str = "POST",
        path: str = "/",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sequence[Emit] | Reject:
        """Hand a request to an inbound trigger.

        Raises:
            InvalidInputError: The config does not satisfy the capability's schema.
            InboundError: The trigger did not answer as it must.
        """
        trigger = self.registry.inbound_triggers[self.source.name, key]
        request = InboundRequest(
            method=method.upper(),
            path=path,
            query=dict(query or {}),
            headers={name.lower(): value for name, value in (headers or {}).items()},
            body=body,
            received_at=datetime.now(UTC),
        )
        whole = self.config(trigger, config)
        return self.host.run(read_request(trigger, whole, request))

    def schedule(self, key: str, *, config: Mapping[str, Any] | None = None) -> Schedule:
        """What a scheduled trigger answers.

        Raises:
            InvalidInputError: The config does not satisfy the capability's schema.
        """
        trigger = self.registry.scheduled_triggers[self.source.name, key]
        whole = self.config(trigger, config)
        answer = self.host.run(trigger.plugin.loop.call(trigger.capability.function, config_of(trigger, whole)))
        assert isinstance(answer, Schedule), f"the trigger answered {answer!r}, which is no Schedule"  # noqa: S101
        return answer

    @contextmanager
    def listening(
        self, key: str, *, config: Mapping[str, Any] | None = None, cursor: Any = None
    ) -> Iterator[Listening]:
        """Start a resident trigger, and stop and dispose of it at the end of the block.

        Args:
            key: Of the trigger.
            config: As an admin would save it, secrets included.
            cursor: What an earlier emission stored.

        Raises:
            InvalidInputError: The config does not satisfy the capability's schema.
            ResidentError: It did not start.
        """
        resident = self.registry.resident_triggers[self.source.name, key]
        listening = Listening(resident, self.config(resident, config), self.host, cursor)
        self.host.run(listening.start())
        try:
            yield listening
        finally:
            self.host.run(listening.stop())

    def config(self, loaded: Configured, config: Mapping[str, Any] | None, context: Any = None) -> dict[str, Any]:
        """A config as it is handed to the invoker: checked against its schema, its expressions evaluated.

        Raises:
            InvalidInputError: It does not satisfy the schema.
        """
        whole = deepcopy(dict(config or {}))  # fresh for each attempt, as a worker opens it
        check_config(loaded.schema, whole)
        variables = {"event": {"context": context}}
        return {
            name: evaluate_template(value, variables) if name in loaded.template_names else value
            for name, value in whole.items()
        }

    async def invoke(
        self,
        action: LoadedAction,
        backends: Backends,
        *,
        config: Mapping[str, Any],
        payload: Mapping[str, Any],
        is_payload_from_input: bool,
        invocation_id: UUID,
        timeout_seconds: float,
        progress: list[Any],
        callback: Callback | None = None,
    ) -> Result:
        """Make one attempt, on the loop of the host."""
        records = self.records.attempt(invocation_id)
        waiting, calls_made = self._waiting.get(invocation_id, (None, Counter[str]()))
        grant = Grant(
            granted_scopes=action.plugin.granted_scopes,
            capability_scopes=frozenset(action.capability.scopes),
            idempotency_key=str(invocation_id),
            records=records,
            host_loop=asyncio.get_running_loop(),
            deadline=datetime.now(UTC) + timedelta(seconds=timeout_seconds),
            calls_made=Counter(calls_made),
        )
        invocation = Invocation(
            id=invocation_id,
            attempt=records.number,
            event_id=UUID(int=1),
            trigger_id=UUID(int=2),
            pipeline_id=UUID(int=3),
            step_name="under-test",
        )
        call = Call(
            config=config,
            payload=payload,
            is_payload_from_input=is_payload_from_input,
            invocation=invocation,
            services=GuardedServices(backends, grant, actor=f"{action.plugin.name}/{action.key}"),
            idempotency_key=str(invocation_id),
            timeout_seconds=timeout_seconds,
            deadline=grant.deadline,
            heartbeat=progress.append,
            callback_url=guarded_callback_url(
                backends.callbacks, grant, invocation_id=invocation_id, attempt=invocation.attempt
            ),
            resumption=Resumption(state=waiting.state, callback=callback) if waiting else None,
        )
        try:
            result = await invoke(action, call)
        finally:
            grant.end()
            records.end()
        if isinstance(result, Waiting):
            self._waiting[invocation_id] = result, grant.calls_made
        elif isinstance(result, Success):
            self._waiting.pop(invocation_id, None)
        return result


@contextmanager
def plugin_under_test(folder: Path | str, *, granted: Sequence[str] | None = None) -> Iterator[Harness]:
    """Load a plugin as a worker does: read ``plugin.toml``, check the contract in another process, import.

    Args:
        folder: Where ``plugin.toml`` is.
        granted: The scopes an admin would have granted; None: all it declares.

    Raises:
        ContractError: What is wrong with it: file, capability, field, and how to mend it.
        LoadError: It cannot be imported.
    """
    source = read_source(Path(folder).resolve())
    if source.error:
        raise ContractError(source.error)
    host = HostLoop()
    try:
        host.run(check(source))
        registry = Registry.load(source, frozenset(source.scopes if granted is None else granted))
        try:
            yield Harness(source, registry, host)
        finally:
            registry.close()
    finally:
        host.close()
