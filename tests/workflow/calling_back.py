"""Actions that are called back, and whoever calls them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from latchflow.runtime.lifecycle.registry import Registry
from latchflow.sdk import ActionCall, Callback, Pending, Plugin
from latchflow.services.callbacks import Callbacks
from latchflow.store import callbacks
from latchflow.temporal.waking import Waker
from tests.support.registries import registry_of
from tests.workflow.engine import Engine

PUBLIC_URL = "https://latchflow.example.org"
LONG = timedelta(days=2)


class Outside:
    """The action ``ask``, which waits to be called back, and the world outside.

    Attributes:
        urls: The addresses that the action handed out.
        calls: By attempt, its number and what was handed to it: the callback in ``resume``, ``execute`` else.
        before_return: Runs in ``execute`` when the address is known.
        on_resume: Runs in ``resume``; its answer is the action's.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.urls: list[str] = []
        self.calls: list[tuple[int, Any]] = []
        self.before_return: Callable[[], Awaitable[None]] | None = None
        self.on_resume: Callable[[ActionCall[Any]], Awaitable[Any]] = self._answer
        self.waker = Waker(engine.deployment.database, engine.client)
        self.registry = self._registry()

    def seen(self) -> list[Any]:
        """The bodies that ``resume`` was handed, in order; None when it was called by time."""
        return [call.body if isinstance(call, Callback) else call for _, call in self.calls if call != "execute"]

    async def send(self, url: str, body: Any, *, wakes: bool = True) -> str | None:
        """What the API does with a POST; the answer says why it was refused."""
        database, keyring = self.engine.deployment.database, self.engine.deployment.keyring
        async with database.connection() as connection:
            callback = await callbacks.look_up(connection, url.rpartition("/")[2])
        assert callback is not None
        sealed = callbacks.seal_body(keyring, callback.invocation_id, body, content_type="application/json")
        async with database.transaction() as connection:
            refusal = await callbacks.use(connection, callback, sealed)
        if wakes and refusal is None:
            self.waker.wake_soon(callback.invocation_id)
            await self.waker.close()
        return refusal

    async def until(self, event_id: UUID, status: str, step: str = "ask") -> dict[str, Any]:
        """Wait for a status of the step; its row."""
        async with asyncio.timeout(10):
            while (row := (await self.engine.deployment.steps(event_id))[step])["status"] != status:
                await asyncio.sleep(0.01)
        return row

    async def _answer(self, call: ActionCall[Any]) -> Any:
        return {"body": call.callback.body if call.callback else None}

    def _registry(self) -> Registry:
        plugin = Plugin()
        host = asyncio.get_running_loop()

        async def on_host(work: Awaitable[Any]) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(work), host))

        async def resume(call: ActionCall[Any], state: Any) -> Any:
            self.calls.append((call.invocation.attempt, call.callback))
            return await on_host(self.on_resume(call))

        @plugin.action("ask", display_name="Ask", config_schema={}, resume=resume)
        async def ask(call: ActionCall[Any]) -> Any:
            self.calls.append((call.invocation.attempt, call.callback or "execute"))
            self.urls.extend([await call.callback_url() for _ in range(call.config.get("urls", 1))])
            if self.before_return is not None:
                await on_host(self.before_return())
            return Pending(check_after=timedelta(seconds=call.config.get("seconds", LONG.total_seconds())))

        @plugin.action("ask-plainly", display_name="Ask, in a thread", config_schema={}, resume=resume)
        def ask_plainly(call: ActionCall[Any]) -> Any:
            self.urls.append(call.wait(call.callback_url()))
            return Pending(check_after=LONG)

        return registry_of(plugin)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def called_back(engine: Engine, *, public_url: str = PUBLIC_URL) -> Outside:
    """The world outside of an engine, whose actions get addresses."""
    from dataclasses import replace

    backend = Callbacks(engine.deployment.database, public_url=public_url)
    engine.backends = replace(engine.backends, callbacks=backend)
    return Outside(engine)
