"""A running API on a database of the test's own, and clients with tokens of chosen scopes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from fastapi import FastAPI
from psycopg.rows import dict_row

from api.app import create_app
from latchflow.crypto import Keyring
from latchflow.key_material import new_encryption_key
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN, Query, ScopedClient, TokenClient, Wiring
from tests.support.plugins import add_plugin
from tests.support.postgres import TestDatabase


@pytest.fixture
def settings(database: TestDatabase, tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "DATABASE_URL": database.url,
            "ENCRYPTION_KEY": new_encryption_key(),
            "LATCHFLOW_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
            "LATCHFLOW_HOME": tmp_path,  # no plugins to check and import: the tests store theirs by hand
            "LATCHFLOW_TEMPORAL_UI_URL": "http://temporal.example:8233/",
            "LATCHFLOW_MAX_BODY_BYTES": 65536,
            "LATCHFLOW_MAX_OBJECT_BYTES": 1_000_000,
            "LATCHFLOW_PUBLIC_URL": "http://api.example",
            "LATCHFLOW_STORAGE_DIR": tmp_path / "storage",
        }
    )


@pytest.fixture
def keyring(settings: Settings) -> Keyring:
    return Keyring.from_setting(settings.encryption_key.get_secret_value())


@pytest.fixture
async def app(settings: Settings, database: TestDatabase) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        # Only now: what stands in the catalog and in no folder, a starting process marks as missing.
        add_plugin(database.owner_url)
        yield app


@pytest.fixture
async def client_with(app: FastAPI) -> AsyncIterator[TokenClient]:
    async with AsyncExitStack() as stack:

        def make(token: str | None) -> httpx2.AsyncClient:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            client = httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app=app), base_url="http://api.example", headers=headers
            )
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def client(client_with: TokenClient) -> httpx2.AsyncClient:
    """The client of the bootstrap token, which holds every scope."""
    return client_with(BOOTSTRAP_TOKEN)


@pytest.fixture
def scoped(client: httpx2.AsyncClient, client_with: TokenClient) -> ScopedClient:
    async def make(*scopes: str, name: str = "limited") -> httpx2.AsyncClient:
        answer = await client.post("/admin/tokens", json={"name": name, "scopes": scopes})
        assert answer.status_code == 201, answer.text
        return client_with(answer.json()["token"])

    return make


@pytest.fixture
def query(database: TestDatabase) -> Query:
    """Look into the database as its owner."""

    def run(statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(database.owner_url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def wiring(client: httpx2.AsyncClient) -> Wiring:
    return Wiring(client)
