"""Objects, links and attachments in the whole product."""

import time
from typing import Any

import httpx2

from tests.e2e.stack import Stack


def core_action(stack: Stack, key: str, config: dict[str, Any]) -> str:
    capability = {"plugin": "@latchflow/core", "key": key}
    action = stack.create("actions", name=f"storage {key}", capability=capability, config=config, isEnabled=True)
    identifier: str = action["id"]
    return identifier


def mail_to(stack: Stack, address: str) -> str:
    """The mail as it came, once it has."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        messages = f"{stack.ready['smtpSinkUrl']}/messages"
        for item in httpx2.get(messages, trust_env=False).json()["items"]:
            if address in item["rcptTo"]:
                return httpx2.get(f"{messages}/{item['id']}/raw", trust_env=False).text
        time.sleep(0.1)
    raise AssertionError(f"no mail to {address}")


def test_a_pipeline_publishes_a_link_mails_it_with_a_file_and_closes_the_bundle(stack: Stack) -> None:
    bundle = stack.create("bundles", name="published by a pipeline")["id"]
    content = b"report " * 100_000
    stored = stack.api.put(
        f"/admin/bundles/{bundle}/objects/2026/report.txt", content=content, headers={"Content-Type": "text/plain"}
    )
    trigger_id = stack.github_trigger("storage")
    publish = core_action(stack, "storage.publish", {"bundleId": bundle, "expiresInSeconds": 600, "maxDownloads": 1})
    mail = core_action(
        stack,
        "email.send",
        {
            "to": ["storage@example.org"],
            "subject": "Your report",
            "attachments": [{"bundleId": bundle, "path": "2026/report.txt"}],
        },
    )
    toggle = core_action(stack, "bundle.toggle", {"isEnabled": False})
    steps = [
        {"name": "publish", "actionId": publish, "sortOrder": 1},
        {"name": "mail", "actionId": mail, "sortOrder": 2, "input": {"textBody": "steps.publish.output.url"}},
    ]
    stack.create("pipelines", name="storage", isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=steps)
    event = stack.until_ended(stack.fire(trigger_id, {"note": "storage"}), 30)

    assert stored.status_code == 201, stored.text
    assert event["status"] == "SUCCEEDED", event
    url = event["runs"][0]["invocations"][0]["output"]["url"]
    assert url.startswith(f"{stack.ready['apiUrl']}/release/lfk_")
    mail_text = mail_to(stack, "storage@example.org")
    assert 'filename="report.txt"' in mail_text
    assert url in mail_text.replace("=\n", "")
    seen = httpx2.get(url, trust_env=False).json()
    assert [entry["path"] for entry in seen["objects"]["items"]] == ["2026/report.txt"]
    assert httpx2.post(url, data={"path": "2026/report.txt"}, trust_env=False).content == content
    assert httpx2.get(url, trust_env=False).status_code == 410

    closing = stack.github_trigger("storage closing")
    step = {"name": "close", "actionId": toggle, "sortOrder": 1, "input": {"bundleId": f"'{bundle}'"}}
    stack.create("pipelines", name="closing", isEnabled=True, triggers=[{"triggerId": closing}], steps=[step])
    event = stack.until_ended(stack.fire(closing, {"note": "closing"}), 30)
    assert event["status"] == "SUCCEEDED", event
    assert stack.get(f"/admin/bundles/{bundle}")["isEnabled"] is False
