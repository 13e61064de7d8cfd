"""Where plugin code runs: one event loop and one thread pool per plugin, never the loop that polls Temporal."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_THREADS = 64
_CLOSE_SECONDS = 2.0
_UNCARRIED = (StopIteration, GeneratorExit)
"""No future carries the first, so that the caller would wait for ever; the second closes whoever awaits it."""


class PluginLoop:
    """The loop thread of one loaded plugin. It starts with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=f"plugin {name}")

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a plugin's function there: a coroutine function on the loop, a plain one in a thread.

        Cancelling the caller cancels the coroutine; a thread cannot be stopped and goes on alone.
        """
        loop = self._running_loop()
        if inspect.iscoroutinefunction(function):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(function(*arguments)), loop))
        context = contextvars.copy_context()
        running = asyncio.get_running_loop()
        answer = await running.run_in_executor(self._threads, partial(context.run, _called, function, *arguments))
        if inspect.isawaitable(answer):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(answer), loop))
        return answer

    def wait(self, awaitable: Awaitable[T], /) -> T:
        """For a function in a thread: wait for something that runs on the loop."""
        result: T = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._running_loop()).result()
        return result

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_CLOSE_SECONDS)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name=f"plugin {self._name}", daemon=True
                )
                self._thread.start()
            return self._loop


def is_being_cancelled() -> bool:
    """Whether the running task was asked to stop; else a ``CancelledError`` is the plugin's own doing."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except _UNCARRIED as error:
        raise RuntimeError(f"the function raised {type(error).__name__}") from error


async def _awaited(answer: Any) -> Any:
    try:
        return await answer
    except _UNCARRIED as error:
        raise RuntimeError(f"the function raised {type(error).__name__}") from error


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        _run_until_stopped(loop)
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue  # asyncio lets these two of a task end the loop; the plugin's other calls need it.
        return
