"""Callback addresses behind the guard."""

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from latchflow.runtime.guard.backends import CallbackBackend
from latchflow.runtime.guard.grant import Asked, Grant


def guarded_callback_url(
    backend: CallbackBackend, grant: Grant, *, invocation_id: UUID, attempt: int
) -> Callable[[], Coroutine[Any, Any, str]]:
    """`latchflow.sdk.ActionCall.callback_url` of one attempt. It needs no scope; that it was used is audited."""

    async def callback_url() -> str:
        asked = Asked(service="callbacks.mint", scopes=(), actor_id=None, detail={})
        return await grant.watch(asked, lambda: backend.mint(invocation_id, attempt=attempt))

    return callback_url
