"""What the tests of running plugins share."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from latchflow.runtime.invoking.invoker import Result, invoke
from latchflow.runtime.lifecycle.registry import LoadedAction, Registry
from latchflow.sdk import (
    ActionCall,
    Plugin,
)
from tests.support.registries import NAME, registry_of
from tests.unit.runtime.invoking import SCHEMA, SECRET, Run, call_of


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Invoke a function as an action."""
    registries: list[Registry] = []

    async def call(
        function: Callable[[ActionCall[Any]], Any],
        *,
        config: dict[str, Any] | None = None,
        schema: Any = SCHEMA,
        timeout_seconds: float = 5.0,
    ) -> Result:
        plugin = Plugin()
        plugin.action("do", display_name="Do", config_schema=schema)(function)
        registry = registry_of(plugin)
        registries.append(registry)
        action: LoadedAction = registry.actions[NAME, "do"]
        return await invoke(action, call_of(config if config is not None else {"apiKey": SECRET}, timeout_seconds))

    yield call
    for registry in registries:
        registry.close()
