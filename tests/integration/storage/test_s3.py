"""The provider `s3` against a real object store in another process."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from latchflow.sdk import ProviderSetup, ServiceError, StorageUpload
from latchflow.services.egress import EgressGuard
from plugins.s3 import plugin
from plugins.s3.config import S3Config
from plugins.s3.failures import as_service_errors
from plugins.s3.provider import S3Storage
from tests.support.s3_server import BUCKET, S3Server
from tests.support.services import UNUSED

_PART = 8 * 1024 * 1024


class Log:
    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


class Asked:
    """A guard that lets everything through and keeps what it was asked, or answers with addresses of its own."""

    def __init__(self, *addresses: str) -> None:
        self.hosts: list[tuple[str, int]] = []
        self._addresses = addresses or ("127.0.0.1",)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.hosts.append((host, port))
        return self._addresses


def setup_of(config: dict[str, Any], network: Any) -> ProviderSetup[S3Config]:
    """As core hands it over: secrets apart from the config."""
    names = ("accessKeyId", "secretAccessKey", "sessionToken")
    model = S3Config.model_validate(config)
    blank: Any = {"access_key_id": None, "secret_access_key": None, "session_token": None}
    secrets = {name: config[name] for name in names if name in config}
    return ProviderSetup(
        config=model.model_copy(update=blank), secrets=secrets, logger=Log(), http=UNUSED, network=network
    )


@asynccontextmanager
async def provider_of(config: dict[str, Any], network: Any = None) -> AsyncIterator[S3Storage]:
    storage = S3Storage(setup_of(config, network or EgressGuard("127.0.0.1")))
    try:
        yield storage
    finally:
        await storage.dispose()


@pytest.fixture
async def storage(s3_server: S3Server) -> AsyncIterator[S3Storage]:
    async with provider_of({**s3_server.config, "prefix": "objects"}) as provider:
        yield provider


def upload(key: str, *chunks: bytes) -> StorageUpload:
    async def content() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return StorageUpload(key=key, chunks=content(), content_type="text/plain")


async def read(storage: S3Storage, key: str) -> bytes:
    return b"".join([chunk async for chunk in storage.get(key)])


def a_key() -> str:
    return f"{uuid4()}/{uuid4()}"


@pytest.mark.parametrize("size", [0, 1, 100_000, _PART - 1, _PART, _PART + 1, 3 * _PART])
async def test_content_of_every_size_comes_back(storage: S3Storage, size: int) -> None:
    key = a_key()
    content = hashlib.shake_128(b"latchflow").digest(size)
    # In chunks that do not fit into parts evenly.
    await storage.put(upload(key, *(content[start : start + 999_983] for start in range(0, size, 999_983))))

    assert hashlib.sha256(await read(storage, key)).digest() == hashlib.sha256(content).digest()
    await storage.delete(key)


async def test_the_key_stands_below_the_prefix_with_its_content_type(s3_server: S3Server, storage: S3Storage) -> None:
    key = a_key()
    await storage.put(upload(key, b"x"))

    async with s3_server.client() as client:
        found = await client.head_object(Bucket=BUCKET, Key=f"objects/{key}")
        assert (found["ContentType"], found["ContentLength"]) == ("text/plain", 1)


async def test_what_was_deleted_is_not_found_and_may_be_deleted_again(storage: S3Storage) -> None:
    key = a_key()
    await storage.put(upload(key, b"x"))
    await storage.delete(key)
    await storage.delete(key)

    with pytest.raises(ServiceError) as caught:
        await read(storage, key)
    assert caught.value.kind == "not_found"


async def unfinished(server: S3Server, key: str) -> list[Any]:
    async with server.client() as client:
        uploads = (await client.list_multipart_uploads(Bucket=BUCKET)).get("Uploads", [])
        return [entry for entry in uploads if entry["Key"].endswith(key)]


async def test_a_source_that_breaks_leaves_nothing(s3_server: S3Server, storage: S3Storage) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield bytes(_PART + 1)
        raise EOFError("the source broke")

    key = a_key()
    with pytest.raises(EOFError):
        await storage.put(StorageUpload(key=key, chunks=content(), content_type="a/b"))

    assert await unfinished(s3_server, key) == []
    with pytest.raises(ServiceError, match="NoSuchKey"):
        await read(storage, key)


async def test_the_parts_of_an_upload_that_was_killed_go_with_its_key(s3_server: S3Server, storage: S3Storage) -> None:
    key = a_key()
    async with s3_server.client() as client:
        begun = await client.create_multipart_upload(Bucket=BUCKET, Key=f"objects/{key}")
        options = {"Bucket": BUCKET, "Key": f"objects/{key}", "UploadId": begun["UploadId"], "PartNumber": 1}
        await client.upload_part(**options, Body=b"x")
    before = len(await unfinished(s3_server, key))
    await storage.delete(key)

    assert (before, await unfinished(s3_server, key)) == (1, [])


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"secretAccessKey": "wrong"}, "denied", "SignatureDoesNotMatch"),
        ({"accessKeyId": "nobody"}, "denied", "S3 answered 403"),
        ({"bucket": "absent"}, "fatal", "NoSuchBucket"),
    ],
)
async def test_a_refusal_says_what_the_server_said(
    s3_server: S3Server, changes: dict[str, str], kind: str, text: str
) -> None:
    async with provider_of(s3_server.config | changes) as storage:
        with pytest.raises(ServiceError, match=text) as caught:
            await storage.put(upload(a_key(), b"x"))

    assert caught.value.kind == kind
    assert "wrong" not in str(caught.value)


async def test_the_end_of_an_upload_that_is_repeated_after_its_answer_was_lost_may_be_tried_again(
    s3_server: S3Server,
) -> None:
    key = a_key()
    async with s3_server.client() as client:
        begun = await client.create_multipart_upload(Bucket=BUCKET, Key=key)
        upload_id = {"Bucket": BUCKET, "Key": key, "UploadId": begun["UploadId"]}
        part = await client.upload_part(**upload_id, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        await client.complete_multipart_upload(**upload_id, MultipartUpload=parts)
        await client.delete_object(Bucket=BUCKET, Key=key)
        with pytest.raises(ServiceError, match="NoSuchUpload") as caught, as_service_errors():
            await client.complete_multipart_upload(**upload_id, MultipartUpload=parts)

    assert caught.value.kind == "retryable"


@pytest.fixture
def nobodys_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
        return address[1]


async def test_a_server_that_is_away_may_be_back_later(s3_server: S3Server, nobodys_port: int) -> None:
    async with provider_of(s3_server.config | {"endpointUrl": f"http://127.0.0.1:{nobodys_port}"}) as storage:
        with pytest.raises(ServiceError, match="cannot be reached") as caught:
            await storage.put(upload(a_key(), b"x"))

    assert caught.value.kind == "retryable"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "127.1", "[::ffff:127.0.0.1]"])
async def test_an_endpoint_that_is_not_public_is_denied_under_whatever_name(s3_server: S3Server, host: str) -> None:
    config = s3_server.config | {"endpointUrl": f"http://{host}:{s3_server.port}"}
    async with provider_of(config, EgressGuard("")) as storage:
        for call in (storage.put(upload(a_key(), b"x")), read(storage, "a/b"), storage.delete("a/b")):
            with pytest.raises(ServiceError) as caught:
                await call
            assert caught.value.kind == "denied", caught.value


async def test_a_bucket_cannot_make_an_address_of_the_endpoint_that_is_denied() -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = {
            "bucket": "127.0",
            "endpointUrl": f"http://0.1:{port}",
            "forcePathStyle": False,
            "accessKeyId": "key",
            "secretAccessKey": "secret",
        }
        async with provider_of(config, EgressGuard("")) as storage:
            with pytest.raises(ServiceError, match=r"127\.0\.0\.1") as caught:
                await read(storage, "a/b")

    assert (caught.value.kind, heard) == ("denied", [])


async def test_a_redirect_to_an_address_that_is_denied_is_not_followed(s3_server: S3Server) -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        target = f"http://127.0.0.1:{s3_server.port}/"
        writer.write(f"HTTP/1.1 307 Elsewhere\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = s3_server.config | {"endpointUrl": f"http://127.0.0.1:{port}"}
        async with provider_of(config, EgressGuard(f"127.0.0.1:{port}")) as storage:
            with pytest.raises(ServiceError, match="not checked") as caught:
                await read(storage, "a/b")

    assert caught.value.kind == "denied"


async def test_the_guard_decides_which_address_a_host_has(s3_server: S3Server) -> None:
    guard = Asked("127.0.0.1")
    config = s3_server.config | {"endpointUrl": f"http://store.example:{s3_server.port}"}
    async with provider_of(config, guard) as storage:
        key = a_key()
        await storage.put(upload(key, b"x"))

        assert await read(storage, key) == b"x"
    assert set(guard.hosts) == {("store.example", s3_server.port)}


async def test_nothing_of_the_environment_reaches_the_client(
    s3_server: S3Server, nobodys_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{nobodys_port}"
    for name, value in {
        "HTTP_PROXY": nowhere,
        "http_proxy": nowhere,
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ENDPOINT_URL_S3": nowhere,
        "AWS_PROFILE": "absent",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_DEFAULTS_MODE": "mobile",
    }.items():
        monkeypatch.setenv(name, value)
    async with provider_of(s3_server.config) as storage:
        key = a_key()
        await storage.put(upload(key, b"x"))

        assert await read(storage, key) == b"x"


def test_the_keys_are_secrets_and_have_variables() -> None:
    (provider,) = plugin.providers
    model: Any = provider.config_schema
    properties = model.model_json_schema()["properties"]

    secret = {name for name, schema in properties.items() if schema.get("writeOnly")}
    assert secret == {"accessKeyId", "secretAccessKey", "sessionToken"}
    assert (provider.kind, provider.id, provider.defaults["secretAccessKey"]) == (
        "storage",
        "s3",
        "S3_SECRET_ACCESS_KEY",
    )
