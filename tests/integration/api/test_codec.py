import base64
from typing import Any

import httpx2
import pytest

from latchflow.crypto import Keyring
from latchflow.key_material import new_encryption_key
from latchflow.settings import Settings
from tests.support.api import pointers

_ENCRYPTED = base64.b64encode(b"binary/encrypted").decode()


def _payload(data: bytes) -> dict[str, Any]:
    return {"metadata": {"encoding": _ENCRYPTED}, "data": base64.b64encode(data).decode()}


@pytest.mark.parametrize("kind", ["rubbish", "of another key", "of another place"])
async def test_a_payload_that_cannot_be_opened_is_422_and_names_its_key(
    client: httpx2.AsyncClient, settings: Settings, kind: str
) -> None:
    own = Keyring.from_setting(settings.encryption_key.get_secret_value())
    foreign = Keyring.from_setting(new_encryption_key())
    sealed, key_id = {
        "rubbish": (b"rubbish", ""),
        "of another key": (foreign.seal(b"x", "temporal/payload"), foreign.writing_key_id),
        "of another place": (own.seal(b"x", "elsewhere"), own.writing_key_id),
    }[kind]
    good = {"metadata": {"encoding": base64.b64encode(b"json/plain").decode()}, "data": base64.b64encode(b"1").decode()}

    answer = await client.post("/codec/decode", json={"payloads": [good, _payload(sealed)]})

    assert answer.status_code == 422, answer.text
    assert pointers(answer) == ["/payloads/1/data"]
    assert key_id in answer.json()["detail"]


async def test_what_was_encoded_is_decoded(client: httpx2.AsyncClient) -> None:
    plain = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MQ=="}] * 2}

    sealed = (await client.post("/codec/encode", json=plain)).json()
    opened = (await client.post("/codec/decode", json=sealed)).json()

    assert sealed != plain
    assert opened == plain
