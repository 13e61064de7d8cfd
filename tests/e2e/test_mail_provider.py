"""A provider that is configured while everything runs: tried out, used by the workers, and given up again."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stack import Stack
from tests.support.gmail_server import GmailServer

KEY = "PLUGIN_LATCHFLOW_PLUGIN_GMAIL_PROVIDER_GMAIL"


@pytest.fixture
def gmail() -> Iterator[GmailServer]:
    running = GmailServer()
    yield running
    running.close()


def configured(stack: Stack) -> dict[str, Any]:
    """How the plugin's provider stands."""
    (plugin,) = [one for one in stack.get("/admin/plugins")["items"] if one["name"] == "@latchflow/plugin-gmail"]
    (provider,) = plugin["providers"]
    return {name: provider[name] for name in ("configKey", "isConfigured", "isActive", "problem")}


def sent(stack: Stack, name: str) -> str:
    """Send a mail through a pipeline; the id that whoever delivered it gave it."""
    trigger_id = stack.github_trigger(name)
    action = stack.create(
        "actions",
        name=name,
        capability={"plugin": "@latchflow/core", "key": "email.send"},
        config={"to": ["ada@example.com"], "subject": name, "textBody": "hello"},
        isEnabled=True,
    )
    step = {"name": "mail", "actionId": action["id"], "sortOrder": 1}
    stack.create("pipelines", name=name, isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=[step])
    event = stack.until_ended(stack.fire(trigger_id, {"name": name}), 20)
    (invocation,) = event["runs"][0]["invocations"]
    assert invocation["status"] == "SUCCEEDED", invocation
    identifier: str = invocation["output"]["providerMessageId"]
    return identifier


def test_a_provider_is_used_from_when_it_is_configured_until_it_is_not(stack: Stack, gmail: GmailServer) -> None:
    before = configured(stack)
    values = {"HTTP_EGRESS_ALLOW": {"value": f"127.0.0.1:{gmail.port}"}, KEY: {"value": gmail.config()}}
    stored = stack.api.put("/system/config", json=values)
    try:
        assert stored.status_code == 200, stored.text
        during = configured(stack)
        tried = stack.api.post("/system/config/test", json={"key": KEY}).json()
        tried_with_mail = stack.api.post("/system/config/test", json={"key": KEY, "to": "ada@example.com"}).json()
        through_gmail = sent(stack, "through a provider")
    finally:
        removed = [stack.api.delete(f"/system/config/{key}").status_code for key in values]
    by_smtp = sent(stack, "by SMTP again")

    assert before == {"configKey": KEY, "isConfigured": False, "isActive": False, "problem": None}
    assert (during["isConfigured"], during["isActive"]) == (True, True)
    assert (tried["ok"], tried_with_mail["ok"]) == (True, True), (tried, tried_with_mail)
    assert removed == [204, 204]
    assert [message["subject"] for message in gmail.messages()] == ["A test of Latchflow", "through a provider"]
    assert through_gmail == gmail.messages()[1]["id"]
    assert by_smtp.endswith("@latchflow.internal>")
