"""An action may put a secret of its config into what it leaves; nobody reads it there."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from psycopg.types.json import Jsonb

from api.routers import history
from latchflow.crypto import Keyring
from latchflow.key_material import new_encryption_key
from latchflow.store import places
from latchflow.temporal.history import HistoryItem, HistoryPage
from tests.integration.api.test_events import add_event, add_invocation
from tests.support.api import Query, Wiring
from tests.support.plugins import PLUGIN

KEY = "key-of-the-action"
CONFIG = {"url": "https://example.org", "apiKey": KEY, "login": {"password": "pass-word"}}


async def event_with_echo(
    wiring: Wiring, query: Query, keyring: Keyring, config: dict[str, Any], output: Any
) -> tuple[UUID, str]:
    action = await wiring.action(config=config)
    event_id = add_event(query, keyring, (await wiring.trigger())["id"])
    invocation_id = add_invocation(query, keyring, event_id, action["id"])
    sealed = keyring.seal_json(output, places.invocation_output(invocation_id))
    query("UPDATE invocations SET output_sealed = %s", sealed)
    return event_id, action["id"]


async def test_secrets_of_an_action_are_masked_in_what_it_left(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    encoded = base64.b64encode(f"u:{KEY}".encode()).decode()
    output = {"headers": {"authorization": f"Bearer {KEY}", "basic": encoded}, "text": "pass-word", "count": 1}
    event_id, action_id = await event_with_echo(wiring, query, keyring, CONFIG, output)
    query("UPDATE attempts SET progress = %s, error = %s", Jsonb([KEY]), Jsonb({"type": "X", "message": f"at {KEY}"}))

    event = await client.get(f"/admin/events/{event_id}")
    executions = await client.get(f"/admin/actions/{action_id}/executions")

    (invocation,) = event.json()["runs"][0]["invocations"]
    assert invocation["output"]["headers"]["authorization"] == "Bearer [secret]"
    assert invocation["output"]["text"] == "[secret]"
    assert invocation["output"]["count"] == 1
    assert encoded[8:-8] not in event.text
    assert invocation["attempts"][0]["progress"] == ["[secret]"]
    assert invocation["attempts"][0]["error"] == {"type": "X", "message": "at [secret]"}
    for answer in (event, executions):
        assert answer.is_success
        assert KEY not in answer.text
        assert "pass-word" not in answer.text


async def test_an_old_secret_is_masked_in_what_was_called_with_it(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    event_id, action_id = await event_with_echo(wiring, query, keyring, CONFIG, {"key": KEY})
    await client.patch(
        f"/admin/actions/{action_id}", json={"config": {**CONFIG, "apiKey": "new-secret"}}, headers={"If-Match": "*"}
    )

    event = await client.get(f"/admin/events/{event_id}")

    assert event.json()["runs"][0]["invocations"][0]["output"] == {"key": "[secret]"}


async def test_the_secrets_of_one_step_are_masked_in_the_output_of_another(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    event_id, _ = await event_with_echo(wiring, query, keyring, CONFIG, {})
    other = await wiring.action("other", config={"url": "https://example.org"})
    invocation_id = add_invocation(query, keyring, event_id, other["id"])
    sealed = keyring.seal_json({"handed": KEY}, places.invocation_output(invocation_id))
    query("UPDATE invocations SET output_sealed = %s WHERE id = %s", sealed, invocation_id)

    event = await client.get(f"/admin/events/{event_id}")
    executions = await client.get(f"/admin/actions/{other['id']}/executions")

    assert '"handed":"[secret]"' in event.text
    assert executions.json()["items"][0]["output"] == {"handed": "[secret]"}


async def test_a_config_with_secrets_that_does_not_open_is_a_named_error(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    event_id, action_id = await event_with_echo(wiring, query, keyring, CONFIG, {"key": KEY})
    lost = Keyring.from_setting(new_encryption_key())
    sealed = lost.seal_json(CONFIG, places.action_config(UUID(action_id), PLUGIN))
    query("UPDATE action_versions SET config_sealed = %s", sealed)

    answer = await client.get(f"/admin/events/{event_id}")

    assert (answer.status_code, answer.json()["code"]) == (500, "seal")


async def test_secrets_are_masked_in_the_history(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id, _ = await event_with_echo(wiring, query, keyring, CONFIG, {})
    attributes = {"result": [{"output": {"echo": f"Bearer {KEY}"}}], "scheduledEventId": 5}
    item = HistoryItem(event_id=6, time=datetime.now(UTC), type="ActivityTaskCompleted", attributes=attributes)

    async def read_history(*_: object, **__: object) -> HistoryPage:
        return HistoryPage(items=(item,), next_page_token=None)

    monkeypatch.setattr(history, "read_history", read_history)

    answer = await client.get(f"/admin/events/{event_id}/history")

    (entry,) = answer.json()["items"]
    assert entry["attributes"] == {"result": [{"output": {"echo": "Bearer [secret]"}}], "scheduledEventId": 5}
    assert (await client.get(f"/admin/events/{uuid4()}/history")).status_code == 404
