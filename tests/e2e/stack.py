"""The whole product from outside: `latchflow dev`, its API, its signals."""

import hashlib
import hmac
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from tests.integration.dev.dev_process import DevProcess

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).parent / "plugins"
FINAL = {"SUCCEEDED", "PARTIAL_FAILURE", "FAILED", "CANCELLED", "IGNORED"}
SECRET = "a webhook secret of the tests"
_ENDINGS = {"SUCCEEDED", "RETRYING", "WAITING", "FAILED", "FAILED_PERMANENT", "TIMED_OUT", "CANCELLED"}


class Stack:
    """A running stack and an admin's client of its API."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        environment: dict[str, Any] = {
            "LATCHFLOW_HOME": str(ROOT),
            "PLUGINS_PATH": str(PLUGINS),
            "PLUGIN_AUTO_ENABLE": "true",
            "LATCHFLOW_WORKFLOW_SANDBOX": "true",
            **env,
        }
        self.dev = DevProcess(folder, *options, **environment)
        self.trace = folder / "trace.txt"
        try:
            self.ready = self.dev.until_ready()
        except BaseException:
            self.dev.close()
            raise
        self.api = httpx2.Client(
            base_url=self.ready["apiUrl"],
            headers={"Authorization": f"Bearer {self.ready['adminToken']}"},
            trust_env=False,
            timeout=15,
        )

    def close(self) -> None:
        self.api.close()
        self.dev.close()

    def get(self, path: str) -> dict[str, Any]:
        answer = self.api.get(path)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def create(self, kind: str, **body: Any) -> dict[str, Any]:
        answer = self.api.post(f"/admin/{kind}", json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def github_trigger(self, name: str, *, is_enabled: bool = True) -> str:
        capability = {"plugin": "@latchflow/plugin-webhook", "key": "webhook"}
        config = {"verification": "github", "secret": SECRET}
        trigger = self.create("triggers", name=name, capability=capability, config=config, isEnabled=is_enabled)
        identifier: str = trigger["id"]
        return identifier

    def sleeping_pipeline(self, name: str, *, seconds: float) -> str:
        """A webhook, and behind it one step that sleeps; returns the trigger's id."""
        trigger_id = self.github_trigger(name)
        capability = {"plugin": "acme-sleeper", "key": "sleep"}
        config = {"seconds": seconds, "trace": str(self.trace)}
        action = self.create("actions", name=name, capability=capability, config=config, isEnabled=True)
        step = {"name": "sleep", "actionId": action["id"], "sortOrder": 1}
        self.create("pipelines", name=name, isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=[step])
        return trigger_id

    def deliver(self, trigger_id: str, body: dict[str, Any], *, secret: str = SECRET) -> httpx2.Response:
        """A signed delivery as GitHub sends it."""
        content = json.dumps(body).encode()
        signature = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
        return httpx2.post(
            f"{self.ready['apiUrl']}/hooks/{trigger_id}",
            content=content,
            headers={
                "Content-Type": "application/json",
                "X-GitHub-Event": "push",
                "X-Hub-Signature-256": f"sha256={signature}",
            },
            trust_env=False,
            timeout=15,
        )

    def fire(self, trigger_id: str, body: dict[str, Any]) -> str:
        answer = self.deliver(trigger_id, body)
        assert answer.status_code == 202, answer.text
        assert answer.json()["duplicate"] is False
        event_id: str = answer.json()["eventId"]
        return event_id

    def event(self, event_id: str) -> dict[str, Any]:
        return self.get(f"/admin/events/{event_id}")

    def until_ended(self, event_id: str, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (event := self.event(event_id))["status"] not in FINAL:
            assert time.monotonic() < deadline, f"the event is still open after {seconds} s: {event}"
            time.sleep(0.1)
        return event

    def until_attempt(self, event_id: str) -> dict[str, Any]:
        """The first attempt of the event's first invocation, once it has started."""
        deadline = time.monotonic() + 15
        while not (attempts := self.event(event_id)["runs"][0]["invocations"][0]["attempts"]):
            assert time.monotonic() < deadline, "no attempt started"
            time.sleep(0.05)
        attempt: dict[str, Any] = attempts[0]
        return attempt

    def audit(self, event_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(f"/admin/audit?triggerEventId={event_id}&limit=200")["items"]
        return items

    def assert_every_start_has_one_ending(self, event_id: str) -> None:
        started: Counter[tuple[str, int]] = Counter()
        ended: Counter[tuple[str, int]] = Counter()
        for entry in self.audit(event_id):
            if entry["kind"] == "action" and entry["attempt"] is not None:
                key = (entry["invocationId"], entry["attempt"])
                started[key] += entry["phase"] == "STARTED"
                ended[key] += entry["phase"] in _ENDINGS

        assert started == ended
        assert set(started.values()) <= {1}
