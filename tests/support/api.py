"""What tests of the API speak with."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from tests.support.plugins import PLUGIN

BOOTSTRAP_TOKEN = "lfk_" + "b" * 43

TokenClient = Callable[[str | None], httpx2.AsyncClient]
"""Makes a client with a token, or without."""

ScopedClient = Callable[..., Awaitable[httpx2.AsyncClient]]
"""Makes a client whose new token has these scopes."""

Query = Callable[..., list[dict[str, Any]]]
"""Runs a statement as the database's owner."""

JSON = "application/json"


class Wiring:
    """Creates definitions through the API."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def trigger(self, name: str = "orders", **fields: Any) -> dict[str, Any]:
        capability = {"plugin": PLUGIN, "key": "inbound"}
        config = {"verification": "bearer", "secret": "trigger-secret"}
        return await self._create(
            "/admin/triggers", {"name": name, "capability": capability, "config": config} | fields
        )

    async def action(self, name: str = "notify", **fields: Any) -> dict[str, Any]:
        capability = {"plugin": PLUGIN, "key": "call"}
        config = {"url": "https://example.org", "apiKey": "action-secret"}
        return await self._create("/admin/actions", {"name": name, "capability": capability, "config": config} | fields)

    async def pipeline(self, name: str = "main", **fields: Any) -> dict[str, Any]:
        return await self._create("/admin/pipelines", {"name": name} | fields)

    async def _create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(path, json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


def pointers(answer: httpx2.Response) -> list[str]:
    """The pointers of a problem's errors."""
    return [error["pointer"] for error in answer.json()["errors"]]
