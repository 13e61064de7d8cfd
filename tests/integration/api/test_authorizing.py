"""`latchflow providers authorize gmail` against a consent page and a token endpoint in another process."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from psycopg.types.json import Jsonb

from latchflow.config_schemas import secret_names
from latchflow.names import plugin_id
from latchflow.runtime.contract import schema_of
from plugins.gmail.config import GmailConfig
from tests.support.api import BOOTSTRAP_TOKEN, Query
from tests.support.gmail_server import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, SENDER, GmailServer
from tests.support.plugins import add_plugin
from tests.support.postgres import TestDatabase

KEY = "PLUGIN_LATCHFLOW_PLUGIN_GMAIL_PROVIDER_GMAIL"


@pytest.fixture(scope="module")
def google() -> Iterator[GmailServer]:
    running = GmailServer()
    yield running
    running.close()


class Verb:
    """The verb, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def consent_page(self) -> str:
        """The address it shows."""
        assert self.process.stderr is not None
        async with asyncio.timeout(15):
            while line := (await self.process.stderr.readline()).decode():
                if line.startswith("http"):
                    return line.strip()
        raise AssertionError("it showed no address")

    async def end(self) -> tuple[int, str, str]:
        """Its exit status, and what it printed since."""
        out, error = await asyncio.wait_for(self.process.communicate(), 20)
        return self.process.returncode or 0, out.decode(), error.decode()


@asynccontextmanager
async def authorizing(google: GmailServer, *options: str, **env: str) -> AsyncIterator[Verb]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LATCHFLOW_", "GMAIL_"))}
    known = {"GMAIL_CLIENT_ID": CLIENT_ID, "GMAIL_CLIENT_SECRET": CLIENT_SECRET, "GMAIL_SENDER": SENDER}
    addresses = ["--auth-url", f"{google.url}/auth", "--token-url", f"{google.url}/token"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "latchflow.cli", "providers", "authorize", "gmail", "--no-browser"),
        *(*addresses, *options),
        env={**clean, **known, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Verb(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def visit(address: str) -> httpx2.Response:
    """As a browser, whose owner agrees to whatever is asked."""
    async with httpx2.AsyncClient(trust_env=False, follow_redirects=True) as browser:
        return await browser.get(address)


async def test_the_refresh_token_is_printed(google: GmailServer) -> None:
    async with authorizing(google) as verb:
        page = await verb.consent_page()
        answer = await visit(page)
        status, out, _ = await verb.end()

    asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    assert (status, out) == (0, f"{REFRESH_TOKEN}\n")
    assert "close this window" in answer.text
    assert asked["code_challenge_method"] == "S256"
    assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")
    assert asked["scope"].split() == [
        "https://www.googleapis.com/auth/gmail.send",
        "https://www.googleapis.com/auth/gmail.readonly",
    ]
    assert CLIENT_SECRET not in page


async def test_less_can_be_asked_for(google: GmailServer) -> None:
    async with authorizing(google, "--send-only") as verb:
        page = await verb.consent_page()

    assert parse_qs(urlsplit(page).query)["scope"] == ["https://www.googleapis.com/auth/gmail.send"]


async def test_an_answer_with_another_state_is_refused_and_the_right_one_still_taken(google: GmailServer) -> None:
    google.script(auth=["wrong-state"])
    async with authorizing(google) as verb:
        page = await verb.consent_page()
        wrong = await visit(page)
        right = await visit(page)
        status, out, _ = await verb.end()

    assert (wrong.status_code, right.status_code) == (400, 200)
    assert (status, out) == (0, f"{REFRESH_TOKEN}\n")


async def test_a_refusal_ends_it(google: GmailServer) -> None:
    google.script(auth=["denied"])
    async with authorizing(google) as verb:
        await visit(await verb.consent_page())
        status, out, error = await verb.end()

    assert (status, out) == (1, "")
    assert "access_denied" in error


async def test_it_does_not_wait_for_ever(google: GmailServer) -> None:
    async with authorizing(google, "--timeout", "1") as verb:
        await verb.consent_page()
        status, _, error = await verb.end()

    assert status == 1
    assert "within 1 s" in error


async def test_a_wrong_client_secret_is_told_and_not_shown(google: GmailServer) -> None:
    async with authorizing(google, GMAIL_CLIENT_SECRET="not-the-secret") as verb:
        await visit(await verb.consent_page())
        status, _, error = await verb.end()

    assert status == 1
    assert "invalid_client" in error
    assert "not-the-secret" not in error


async def test_a_taken_port_is_named(google: GmailServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with authorizing(google, "--port", port) as verb:
            status, _, error = await verb.end()

    assert status == 1
    assert port in error
    assert "--port" in error


async def test_saving_without_a_server_asks_nobody(google: GmailServer) -> None:
    async with authorizing(google, "--save", LATCHFLOW_API_URL="http://127.0.0.1:1") as verb:
        status, _, error = await verb.end()

    assert status == 1
    assert "LATCHFLOW_TOKEN" in error


async def test_it_is_stored_in_the_system_config(
    google: GmailServer, app: FastAPI, client: httpx2.AsyncClient, database: TestDatabase, query: Query
) -> None:
    schema = schema_of(GmailConfig)
    add_plugin(database.owner_url, "@latchflow/plugin-gmail")
    query(
        "INSERT INTO providers VALUES (%s, 'email', 'gmail', 'Gmail', %s, '{}')",
        plugin_id("@latchflow/plugin-gmail"),
        Jsonb(dict(schema)),
    )
    former = {"apiUrl": "https://proxy.example", "tokenUrl": "https://proxy.example/token", "sender": "a@example.org"}
    await client.put(
        f"/system/config/{KEY}",
        json={"value": former | {"clientId": "i", "clientSecret": "former-secret", "refreshToken": "former-token"}},
    )
    async with (
        served(app) as url,
        authorizing(google, "--save", LATCHFLOW_API_URL=url, LATCHFLOW_TOKEN=BOOTSTRAP_TOKEN) as verb,
    ):
        await visit(await verb.consent_page())
        status, out, error = await verb.end()

    assert (status, error) == (0, "")
    assert REFRESH_TOKEN not in out
    assert secret_names(schema) == {"clientSecret", "refreshToken"}
    stored = await app.state.context.services.config.stored([KEY])
    assert stored[KEY] == {
        "apiUrl": "https://proxy.example",
        "tokenUrl": f"{google.url}/token",
        "clientId": CLIENT_ID,
        "clientSecret": CLIENT_SECRET,
        "refreshToken": REFRESH_TOKEN,
        "sender": SENDER,
    }
    shown = (await client.get(f"/system/config/{KEY}")).json()
    assert shown["value"]["refreshToken"] == "********"


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The API on a port of the loopback address; its parts are open already."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving
