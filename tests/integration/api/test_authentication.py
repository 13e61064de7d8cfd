import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings
from tests.integration.api.conftest import BOOTSTRAP_TOKEN, ClientFactory, Query


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("Basic abc", "malformed"),
        ("Bearer short", "malformed"),
        ("Bearer lfk_" + "x" * 43, "unknown"),
    ],
)
async def test_a_call_without_a_good_token_is_401_and_audited(
    client_with: "type[httpx2.AsyncClient]", query: Query, header: str | None, reason: str
) -> None:
    client = client_with(None)  # type: ignore[call-arg, arg-type]

    answer = await client.get("/admin/triggers", headers={"Authorization": header} if header else {})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"
    (entry,) = query("SELECT * FROM audit_entries WHERE kind = 'auth'")
    assert entry["detail"] == {"outcome": "denied", "reason": reason, "method": "GET", "path": "/admin/triggers"}


async def test_an_unknown_path_without_a_token_is_401(client_with: ClientFactory) -> None:
    client = client_with(None)  # type: ignore[misc]

    assert (await client.get("/nowhere")).status_code == 401  # type: ignore[attr-defined]
    assert (await client.get("/openapi.json")).status_code == 200  # type: ignore[attr-defined]
