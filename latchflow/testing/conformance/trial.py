"""One case of an action under way, and what was seen of it."""

import asyncio
import contextlib
import threading
from typing import Any
from uuid import UUID, uuid4

from structlog.testing import capture_logs

from latchflow.config_schemas import secret_strings
from latchflow.runtime.guard import Backends
from latchflow.runtime.invoking.invoker import Failure, Result, Success, Waiting
from latchflow.runtime.lifecycle.registry import LoadedAction
from latchflow.sdk import HttpResponse
from latchflow.testing.backends import ScriptedHttp, Services, hanging
from latchflow.testing.conformance.cases import ActionCase
from latchflow.testing.conformance.leaks import leaks, printed, short_secrets
from latchflow.testing.conformance.watching import tasks_of, watched
from latchflow.testing.harness import Harness

_ATTEMPT_SECONDS = 10.0
_MOST_WAITS = 20
_UNDER_WAY_SECONDS = 1.0
_CANCEL_SECONDS = 2.0
_POLL_SECONDS = 0.02
_BUGS = frozenset({"AttributeError", "NameError", "TypeError", "UnboundLocalError"})
_OUTPUT_FAULTS = frozenset({"OutputNotSerialisable", "OutputTooLarge"})


def services_of(case: ActionCase) -> Services:
    """The services as the case wants them."""
    responses = [
        HttpResponse(status=answer.status, headers=answer.headers, content=answer.body.encode()) for answer in case.http
    ]
    services = Services(http=ScriptedHttp(answers=responses))
    for file in case.files:
        services.storage.contents[file.bundle, file.path] = file.content.encode()
    return services


class Trial:
    """One case under way, and what was seen."""

    def __init__(self, harness: Harness, action: LoadedAction, case: ActionCase, config: dict[str, Any]) -> None:
        self._harness = harness
        self._action = action
        self._case = case
        self._config = config
        self._secrets = secret_strings(action.schema, config)
        self._blocked_at: str | None = None
        self._seen: set[str] = set()
        self._result: Result | None = None

    def run(self, backends: Backends) -> None:
        """Make one attempt, resume it for as long as it waits, and look at what it leaves."""
        invocation_id = uuid4()
        for _ in range(_MOST_WAITS):
            progress: list[Any] = []
            with printed() as text, capture_logs() as logs:
                self._result = self._harness.host.run(self._watched(backends, progress, invocation_id))
            self._look(self._result, logs, progress, text.text)
            if not isinstance(self._result, Waiting):
                return

    def unexpected(self) -> str | None:
        """Why the first attempt did not end as the case expects."""
        is_success = isinstance(self._result, Success | Waiting)
        if is_success == (self._case.expect == "success"):
            return None
        if isinstance(self._result, Failure):
            return f"it failed: {self._result.error_type}: {self._result.message}"
        return "it succeeded"

    def unstorable(self) -> str | None:
        """Why the output of the last attempt cannot be kept."""
        if isinstance(self._result, Failure) and self._result.error_type in _OUTPUT_FAULTS:
            return self._result.message
        return None

    def blocking(self) -> str | None:
        """Where it held its loop up."""
        if self._blocked_at is None:
            return None
        return f"it blocks its loop at {self._blocked_at}: await something asynchronous there, or write a plain def"

    def broken(self) -> str | None:
        """What it made of an error of a service that it should have let through, or turned into one of its own."""
        if isinstance(self._result, Failure) and self._result.error_type in _BUGS:
            return f"its own code fails then: {self._result.error_type}: {self._result.message}"
        return None

    def cancel(self) -> str | None:
        """Cancel an attempt whose services never answer."""
        progress: list[Any] = []
        with printed() as text, capture_logs() as logs:
            has_ended = self._harness.host.run(self._cancelled(progress))
        self._look(None, logs, progress, text.text)
        if has_ended:
            return None
        return "it goes on after it was cancelled: let asyncio.CancelledError pass"

    def wandering(self) -> str | None:
        """Compare what two attempts do outside."""
        first, second = (self._effects() for _ in range(2))
        if first == second:
            return None
        return f"one attempt calls {first}, another {second}: make the same calls in the same order"

    def leaking(self) -> str | None:
        """Where a secret was seen in any of the attempts."""
        if short := short_secrets(self._secrets):
            return f"{len(short)} secrets of the case have under 8 characters: longer ones can be found again"
        return f"a secret of the config stands in {' and in '.join(sorted(self._seen))}" if self._seen else None

    async def _watched(self, backends: Backends, progress: list[Any], invocation_id: UUID) -> Result:
        async with watched(self._action.plugin.loop) as seen:
            result = await self._invoke(backends, progress, invocation_id)
        self._blocked_at = self._blocked_at or seen.blocked_at
        return result

    async def _cancelled(self, progress: list[Any]) -> bool:
        loop = self._action.plugin.loop
        before = await tasks_of(loop)
        reached = asyncio.Event()
        backends = hanging(services_of(self._case), reached.set)
        attempt = asyncio.ensure_future(self._invoke(backends, progress, uuid4()))
        under_way = asyncio.ensure_future(reached.wait())
        await asyncio.wait([attempt, under_way], timeout=_UNDER_WAY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        under_way.cancel()
        attempt.cancel()
        # What the plugin has under way counts, on its loop or in a thread, not that core has stopped waiting for it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                while self._threads() or await tasks_of(loop) > before:  # noqa: ASYNC110 - what is not ours is silent
                    await asyncio.sleep(_POLL_SECONDS)
                await asyncio.wait([attempt])
                return True
        return False

    def _threads(self) -> list[str]:
        """The threads of the plugin's plain functions that are under way."""
        prefix = f"plugin {self._action.plugin.name}_"
        return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]

    def _effects(self) -> list[str]:
        known = len(self._harness.records.calls)
        self.run(services_of(self._case).backends)
        return [call.service for call in self._harness.records.calls[known:] if call.outcome == "intended"]

    async def _invoke(self, backends: Backends, progress: list[Any], invocation_id: UUID) -> Result:
        return await self._harness.invoke(
            self._action,
            backends,
            config=self._config,
            payload=self._case.payload,
            is_payload_from_input=True,
            invocation_id=invocation_id,
            timeout_seconds=_ATTEMPT_SECONDS,
            progress=progress,
        )

    def _look(self, result: object, logs: Any, progress: list[Any], text: str) -> None:
        self._seen.update(leaks(self._secrets, result=result, logs=logs, progress=progress, text=text))
