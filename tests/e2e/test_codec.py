import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.stack import Stack


def codec_endpoint(stack: Stack) -> str:
    """Where the Web UI itself is told to have payloads decoded."""
    settings = httpx2.get(f"{stack.ready['temporalUiUrl']}/api/v1/settings", trust_env=False).json()
    endpoint: str = settings["Codec"]["Endpoint"]
    return endpoint


def sealed_input(stack: Stack, event_id: str) -> dict[str, Any]:
    """The input of an event's workflow as Temporal keeps it."""
    path = f"/api/v1/namespaces/default/workflows/event:{event_id}/history"
    history = httpx2.get(stack.ready["temporalUiUrl"] + path, trust_env=False).json()["history"]
    payloads: dict[str, Any] = history["events"][0]["workflowExecutionStartedEventAttributes"]["input"]
    return payloads


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_web_ui_gets_sealed_payloads_decoded_from_its_own_origin(stack: Stack, host: str) -> None:
    trigger_id = stack.sleeping_pipeline(f"codec-{host}", seconds=0)
    event_id = stack.fire(trigger_id, {"note": "codec"})
    stack.until_ended(event_id, 20)
    origin = f"http://{host}:{urlsplit(stack.ready['temporalUiUrl']).port}"
    payloads = sealed_input(stack, event_id)
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-namespace",
    }

    preflight = httpx2.options(f"{codec_endpoint(stack)}/decode", headers=asked, trust_env=False)
    answer = httpx2.post(
        f"{codec_endpoint(stack)}/decode?preserveStorageRefs=true",
        json=payloads,
        headers={"Origin": origin, "X-Namespace": "default"},
        trust_env=False,
    )

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-origin"] == origin
    assert f"codec-{host}".encode() not in json.dumps(payloads).encode()
    assert answer.json()["payloads"][0]["metadata"]["encoding"] == "anNvbi9wbGFpbg=="  # json/plain


def test_codec_opens_for_nobody_else(stack: Stack) -> None:
    endpoint = codec_endpoint(stack)
    wrong = endpoint.rpartition("/")[0] + "/" + "x" * 43

    assert httpx2.post(f"{wrong}/decode", json={"payloads": []}, trust_env=False).status_code == 404
    assert httpx2.post(f"{stack.ready['apiUrl']}/codec/decode", json={}, trust_env=False).status_code == 401
    foreign = httpx2.post(
        f"{endpoint}/decode", json={"payloads": []}, headers={"Origin": "http://evil.example"}, trust_env=False
    )
    assert "access-control-allow-origin" not in foreign.headers


def test_what_a_sender_sends_never_stands_in_temporal_or_postgres_as_plain_text(stack: Stack) -> None:
    canary = "canary-5d1f6a0c93"
    trigger_id = stack.sleeping_pipeline("canary", seconds=0)
    stack.until_ended(stack.fire(trigger_id, {"note": canary}), 20)

    found = [path for path in data_files(stack.dev.data_dir) if canary.encode() in path.read_bytes()]

    assert found == []


def data_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
