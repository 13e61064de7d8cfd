"""Objects and links with the API as a program: two of it, killed, and with an eye on its memory."""

import hashlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import httpx2
import psycopg
import pytest

from latchflow.key_material import new_encryption_key
from latchflow.services.storage import storage_of
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN
from tests.support.api_process import ROOT, ApiProcess
from tests.support.execution import Deployment
from tests.support.memory import peak, reset_peak
from tests.support.postgres import TestDatabase
from tests.support.s3_server import BUCKET, S3Server

MIB = 1024 * 1024


class Start(Protocol):
    def __call__(self, home: Path | None = None, **environment: str) -> ApiProcess: ...


@pytest.fixture
def start(database: TestDatabase, tmp_path: Path) -> Iterator[Start]:
    """Starts another API process of one deployment, without plugins if it gets no home with some."""
    key = new_encryption_key()
    running: list[ApiProcess] = []

    def another(home: Path | None = None, **environment: str) -> ApiProcess:
        folder = str(tmp_path / "storage")
        api = ApiProcess(database, home or tmp_path, key, LATCHFLOW_STORAGE_DIR=folder, **environment)
        running.append(api)
        return api

    yield another
    for api in running:
        api.close()


def bundle_of(api: ApiProcess) -> str:
    """The path of a new bundle."""
    answer = api.client.post("/admin/bundles", json={"name": "reports"})
    return f"/admin/bundles/{answer.json()['id']}"


def release_path(api: ApiProcess, bundle: str, **fields: int) -> str:
    link = api.client.post(f"{bundle}/links", json={"expiresInSeconds": 600, **fields}).json()
    return str(httpx2.URL(link["url"]).path)


def test_of_two_processes_one_hands_out_the_last_download(start: Start) -> None:
    first, second = start(), start()
    bundle = bundle_of(first)
    first.client.put(f"{bundle}/objects/a", content=b"x" * 100_000)

    def download(number: int, path: str) -> int:
        api = (first, second)[number % 2]
        answer = httpx2.post(f"{api.url}{path}", data={"path": "a"}, trust_env=False, timeout=30)
        assert answer.status_code != 200 or answer.content == b"x" * 100_000
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            path = release_path(first, bundle, maxDownloads=1)
            statuses = list(pool.map(download, range(8), [path] * 8))
            assert sorted(statuses) == [200] + [410] * 7
    for api in (first, second):
        assert not [line for line in api.log if "lfk_" in line]


def half_an_upload(api: ApiProcess, path: str, content: bytes) -> socket.socket:
    """A request that has sent its content but for the end."""
    host, port = httpx2.URL(api.url).host, httpx2.URL(api.url).port
    assert port is not None
    connection = socket.create_connection((host, port))
    head = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {BOOTSTRAP_TOKEN}\r\n"
        f"Content-Length: {len(content) + 1}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


async def test_a_killed_upload_leaves_the_former_object_and_is_tidied_up(
    start: Start, deployment: Deployment, tmp_path: Path
) -> None:
    storage_dir = tmp_path / "storage"
    killed, other = start(), start()
    bundle = bundle_of(killed)
    killed.client.put(f"{bundle}/objects/a", content=b"former")
    connection = half_an_upload(killed, f"{bundle}/objects/a", b"y" * (3 * MIB))
    while not [file for file in storage_dir.rglob("*.part") if file.stat().st_size >= 2 * MIB]:
        assert killed.client.get("/healthz").status_code == 200
    killed.kill()
    connection.close()

    assert other.client.get(f"{bundle}/objects/a").content == b"former"
    with psycopg.connect(deployment.urls.owner_url, autocommit=True) as database:
        database.execute("UPDATE storage_uploads SET remove_after = now()")
    settings = Settings.model_validate({"LATCHFLOW_STORAGE_DIR": storage_dir})
    assert await storage_of(settings, deployment.database).remove_leftovers() == 1
    assert len([file for file in storage_dir.rglob("*") if file.is_file()]) == 1
    assert other.client.get(f"{bundle}/objects/a").content == b"former"


def measure(api: ApiProcess, size: int) -> tuple[int, int]:
    """What putting, getting and releasing an object of this size adds to the API's memory at its peak."""
    bundle = bundle_of(api)
    block = bytes(range(256)) * 4096

    def content() -> Iterator[bytes]:
        for _ in range(size // len(block)):
            yield block

    api.client.put(f"{bundle}/objects/warm", content=block)
    api.client.get(f"{bundle}/objects/warm")
    before = reset_peak(api.pid)
    stored = api.client.put(f"{bundle}/objects/large", content=content())
    assert stored.status_code == 201, stored.text
    assert stored.json()["size"] == size
    path = release_path(api, bundle)
    for method, url, body in (("GET", f"{bundle}/objects/large", None), ("POST", path, {"path": "large"})):
        digest = hashlib.sha256()
        with api.client.stream(method, url, data=body) as answer:
            for chunk in answer.iter_bytes():
                digest.update(chunk)
        assert digest.hexdigest() == stored.json()["sha256"]
    return before, peak(api.pid)


async def start_with_s3(start: Start, s3_server: S3Server) -> ApiProcess:
    """An API whose objects go to S3, because the environment configures the provider."""
    async with s3_server.client() as client:
        await client.create_bucket(Bucket=BUCKET)
    return start(
        ROOT,
        HTTP_EGRESS_ALLOW=f"127.0.0.1:{s3_server.port}",
        S3_BUCKET=BUCKET,
        S3_ENDPOINT_URL=s3_server.url,
        S3_ACCESS_KEY_ID=s3_server.config["accessKeyId"],
        S3_SECRET_ACCESS_KEY=s3_server.config["secretAccessKey"],
    )


def test_an_object_of_64_mib_takes_little_memory(start: Start) -> None:
    before, highest = measure(start(), 64 * MIB)

    assert highest - before < 24 * MIB, f"{(highest - before) / MIB:.1f} MiB"


async def test_an_object_of_64_mib_in_s3_takes_little_memory(start: Start, s3_server: S3Server, tmp_path: Path) -> None:
    before, highest = measure(await start_with_s3(start, s3_server), 64 * MIB)

    assert highest - before < 48 * MIB, f"{(highest - before) / MIB:.1f} MiB"
    assert not (tmp_path / "storage").exists()


@pytest.mark.long
def test_an_object_of_1_gib_takes_at_most_64_mib_of_memory(start: Start) -> None:
    before, highest = measure(start(), 1024 * MIB)

    assert highest - before <= 64 * MIB, f"{(highest - before) / MIB:.1f} MiB"


@pytest.mark.long
async def test_an_object_of_1_gib_in_s3_takes_at_most_64_mib_of_memory(start: Start, s3_server: S3Server) -> None:
    before, highest = measure(await start_with_s3(start, s3_server), 1024 * MIB)

    assert highest - before <= 64 * MIB, f"{(highest - before) / MIB:.1f} MiB"
