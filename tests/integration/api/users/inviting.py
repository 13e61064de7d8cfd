"""What the tests of users do again and again."""

from typing import Any

import httpx2

from tests.support.api import TokenClient
from tests.support.mailbox import Mailbox

PUBLIC = "https://latch.example/app"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}


async def add_user(client: httpx2.AsyncClient, email: str = "ada@example.org", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/admin/users", json={"email": email, "role": "EXECUTOR"} | fields)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def accept(client_with: TokenClient, mailbox: Mailbox) -> httpx2.AsyncClient:
    """A client with the personal token of whoever was invited last."""
    answer = await client_with(None).post(f"/invitations/{mailbox.token()}", headers=JSON)
    assert answer.status_code == 200, answer.text
    return client_with(answer.json()["token"])
