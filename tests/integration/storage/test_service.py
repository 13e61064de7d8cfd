"""The storage service and the actions that use it, on a real database and real files."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from latchflow.errors import NotFoundError
from latchflow.sdk import (
    MAX_ATTACHMENT_BYTES,
    ActionCall,
    EmailMessage,
    Invocation,
    PermanentFailure,
    SendResult,
    ServiceError,
    StorageProvider,
)
from latchflow.services.local_files import LocalFiles
from latchflow.services.resources import Resources
from latchflow.services.storage import Storage
from latchflow.services.upload import ObjectTooLargeError
from latchflow.store.bundle_objects import delete_object
from latchflow.store.bundles import create_bundle, delete_bundle
from latchflow.store.links import look_up_link, revoke_link
from plugins.core import plugin
from tests.support.execution import Deployment
from tests.support.services import NO_SERVICES, UNUSED, grant_of, services_of

ACTIONS = {action.key: action for action in plugin.actions}
SCOPES = ("email:send", "storage:read", "bundles:toggle")


@dataclass
class Folders:
    """Providers that an admin may switch between."""

    known: dict[str, StorageProvider] = field(default_factory=dict)
    current: str | None = None

    @asynccontextmanager
    async def active(self) -> AsyncIterator[tuple[str, StorageProvider] | None]:
        yield None if self.current is None else (self.current, self.known[self.current])

    @asynccontextmanager
    async def named(self, name: str) -> AsyncIterator[StorageProvider | None]:
        yield self.known.get(name)


class World:
    """A deployment with storage; mails are kept."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.providers = Folders()
        self.sent: list[EmailMessage] = []
        self.storage = self.storage_with()

    def storage_with(self, **changes: Any) -> Storage:
        options: dict[str, Any] = {
            "local": LocalFiles(self.folder),
            "providers": self.providers,
            "public_url": "https://latchflow.example/",
            "max_object_bytes": 64 * 1024 * 1024,
        }
        return Storage(self.deployment.database, **{**options, **changes})

    async def bundle(self, name: str = "reports") -> UUID:
        async with self.deployment.database.transaction() as connection:
            values = {"name": name, "description": "", "is_enabled": True}
            return (await create_bundle(connection, values, actor="tests")).id

    async def put(self, bundle: UUID, path: str, content: bytes, storage: Storage | None = None) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        await (storage or self.storage).put(bundle, path, chunks(), content_type="text/plain", actor="tests")

    async def read(self, bundle: UUID, path: str) -> bytes:
        return b"".join([chunk async for chunk in self.storage.get(bundle, path)])

    async def due(self) -> None:
        await self.deployment.rows("UPDATE storage_uploads SET remove_after = now()")

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def send(self, message: EmailMessage, **_: Any) -> SendResult:
        self.sent.append(message)
        return SendResult(provider_message_id="<1@x>", accepted_recipients=["a@example.org"])

    async def call(self, key: str, config: Mapping[str, Any], *, scopes: tuple[str, ...] = SCOPES) -> Any:
        """Run an action behind the real guard."""
        outbox: Any = self
        resources = Resources(self.deployment.database)
        backends = replace(NO_SERVICES, storage=self.storage, resources=resources, email=outbox)
        action: Any = ACTIONS[key]
        some_id = UUID(int=1)
        return await action.action(
            ActionCall(
                config=action.config_schema.model_validate(config),
                secrets={},
                payload={},
                invocation=Invocation(
                    id=some_id, attempt=1, event_id=some_id, trigger_id=some_id, pipeline_id=some_id, step_name="s"
                ),
                services=services_of(backends, grant_of(granted=scopes, declared=action.scopes)),
                logger=UNUSED,
                idempotency_key="key",
                heartbeat=lambda _: None,
                deadline=datetime.now(UTC) + timedelta(seconds=30),
                wait=UNUSED,
                callback_url=UNUSED,
            )
        )


@pytest.fixture
def world(deployment: Deployment, tmp_path: Path) -> World:
    return World(deployment, tmp_path / "storage")


async def test_a_link_is_published_and_its_token_opens_the_bundle(world: World) -> None:
    bundle = await world.bundle()
    config = {"bundleId": str(bundle), "expiresInSeconds": 3600, "maxDownloads": 2}
    output = await world.call("storage.publish", config)

    assert set(output) == {"url", "expiresAt"}
    assert output["url"].startswith("https://latchflow.example/release/lfk_")
    left = datetime.fromisoformat(output["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    async with world.deployment.database.connection() as connection:
        link = await look_up_link(connection, output["url"].rpartition("/")[2])
    assert link is not None
    assert (link.bundle_id, link.refusal) == (bundle, None)


async def test_a_repeated_call_replaces_the_link_that_nobody_was_given(world: World) -> None:
    bundle = await world.bundle()
    options: dict[str, Any] = {"expires_in": timedelta(hours=1), "max_downloads": 1, "actor": "a", "key": "k/1"}
    first = await world.storage.create_release_link(bundle, **options)
    second = await world.storage.create_release_link(bundle, **options)
    third = await world.storage.create_release_link(bundle, **{**options, "key": "k/2"})

    assert first.id == second.id != third.id
    async with world.deployment.database.connection() as connection:
        states = [await look_up_link(connection, link.url.rpartition("/")[2]) for link in (first, second, third)]
    assert [state is not None for state in states] == [False, True, True]


async def test_a_repeated_call_does_not_revive_a_link_that_was_revoked(world: World) -> None:
    bundle = await world.bundle()
    options: dict[str, Any] = {"expires_in": timedelta(hours=1), "max_downloads": None, "actor": "a", "key": "k/1"}
    link = await world.storage.create_release_link(bundle, **options)
    async with world.deployment.database.transaction() as connection:
        await revoke_link(connection, bundle, link.id, actor="admin")

    with pytest.raises(ServiceError, match="revoked") as caught:
        await world.storage.create_release_link(bundle, **options)

    assert caught.value.kind == "fatal"
    (row,) = await world.deployment.rows("SELECT revoked_at FROM release_links")
    assert row["revoked_at"] is not None


async def test_links_need_a_public_url_a_bundle_and_limits(world: World) -> None:
    bundle = await world.bundle()
    hour = timedelta(hours=1)
    for storage, target, changes, kind in (
        (world.storage_with(public_url=""), bundle, {}, "fatal"),
        (world.storage, uuid4(), {}, "not_found"),
        (world.storage, bundle, {"expires_in": timedelta()}, "validation"),
        (world.storage, bundle, {"expires_in": timedelta(days=367)}, "validation"),
        (world.storage, bundle, {"max_downloads": 0}, "validation"),
    ):
        options: dict[str, Any] = {"expires_in": hour, "max_downloads": None, **changes}
        with pytest.raises(ServiceError) as caught:
            await storage.create_release_link(target, actor="a", **options)
        assert caught.value.kind == kind


async def test_a_bundle_is_switched_and_the_state_it_has_already_changes_nothing(world: World) -> None:
    bundle = await world.bundle()
    for _ in range(2):
        await world.call("bundle.toggle", {"bundleId": str(bundle), "isEnabled": False})

    (row,) = await world.deployment.rows("SELECT is_enabled, version FROM bundles")
    assert row == {"is_enabled": False, "version": 2}
    rows = await world.deployment.rows("SELECT actor FROM audit_entries WHERE detail->>'operation' = 'update'")
    assert [entry["actor"] for entry in rows] == ["acme-testing/act"]
    with pytest.raises(ServiceError) as caught:
        await world.call("bundle.toggle", {"bundleId": str(uuid4()), "isEnabled": False})
    assert caught.value.kind == "not_found"


async def test_the_files_of_a_mail_come_out_of_bundles(world: World) -> None:
    bundle = await world.bundle()
    await world.put(bundle, "2026/report.pdf", b"pdf")
    await world.put(bundle, "data", b"\x00")
    attachments = [
        {"bundleId": str(bundle), "path": "2026/report.pdf"},
        {"bundleId": str(bundle), "path": "data", "name": "data.csv"},
    ]
    await world.call("email.send", {"to": ["a@example.org"], "subject": "s", "attachments": attachments})

    files = [(file.name, file.content, file.content_type) for file in world.sent[0].attachments]
    assert files == [("report.pdf", b"pdf", "application/pdf"), ("data.csv", b"\x00", "text/csv")]


async def test_a_mail_with_files_that_are_too_large_together_or_missing_is_not_sent(world: World) -> None:
    bundle = await world.bundle()
    await world.put(bundle, "a", bytes(MAX_ATTACHMENT_BYTES))
    await world.put(bundle, "b", b"x")
    mail = {"to": ["a@example.org"], "subject": "s"}
    both = [{"bundleId": str(bundle), "path": path} for path in ("a", "b")]

    with pytest.raises(PermanentFailure, match="20 MiB"):
        await world.call("email.send", {**mail, "attachments": both})
    with pytest.raises(ServiceError, match="no object"):
        await world.call("email.send", {**mail, "attachments": [{"bundleId": str(bundle), "path": "c"}]})
    with pytest.raises(ServiceError, match="storage:read"):
        await world.call("email.send", {**mail, "attachments": both}, scopes=("email:send",))
    assert world.sent == []


async def test_an_object_stays_readable_when_another_provider_becomes_the_active_one(
    world: World, tmp_path: Path
) -> None:
    bundle = await world.bundle()
    await world.put(bundle, "local", b"1")
    for name in ("one", "two"):
        world.providers.known[name] = LocalFiles(tmp_path / name)
        world.providers.current = name
        await world.put(bundle, name, name.encode())

    assert [await world.read(bundle, path) for path in ("local", "one", "two")] == [b"1", b"one", b"two"]
    assert len([path for path in (tmp_path / "two").rglob("*") if path.is_file()]) == 1


async def test_what_a_provider_that_is_gone_holds_waits_for_it(world: World, tmp_path: Path) -> None:
    bundle = await world.bundle()
    world.providers.known["one"] = LocalFiles(tmp_path / "one")
    world.providers.current = "one"
    await world.put(bundle, "a", b"old")
    await world.put(bundle, "a", b"new")
    await world.put(bundle, "b", b"x")
    gone, world.providers.known, world.providers.current = world.providers.known, {}, None
    await world.put(bundle, "b", b"local")
    await world.due()

    assert await world.storage.remove_leftovers() == 0
    with pytest.raises(ServiceError, match="provider one is not configured") as caught:
        await world.read(bundle, "a")
    assert caught.value.kind == "retryable"
    world.providers.known = gone
    await world.due()
    assert await world.storage.remove_leftovers() == 2
    assert await world.read(bundle, "a") == b"new"


async def test_leftovers_are_removed_once_however_many_look_for_them(world: World) -> None:
    bundle = await world.bundle()
    for number in range(30):
        await world.put(bundle, "a", str(number).encode())
    await world.due()

    removed = await asyncio.gather(*(world.storage.remove_leftovers() for _ in range(4)))
    assert sum(removed) == 29
    assert (len(world.files()), await world.read(bundle, "a")) == (1, b"29")
    assert await world.deployment.rows("SELECT * FROM storage_uploads") == []


async def test_objects_that_come_and_go_while_bundles_are_deleted_leave_nothing_behind(world: World) -> None:
    async def tried(work: Coroutine[Any, Any, None]) -> str:
        try:
            await work
        except NotFoundError:
            return "not_found"
        except ServiceError as error:
            return error.kind
        return "ok"

    async def delete(bundle: UUID) -> None:
        async with world.deployment.database.transaction() as connection:
            await delete_bundle(connection, bundle, expected=None, actor="tests")

    async def remove(bundle: UUID) -> None:
        async with world.deployment.database.transaction() as connection:
            await delete_object(connection, bundle, "a", actor="tests")

    for number in range(10):
        bundle = await world.bundle(f"bundle {number}")
        await world.put(bundle, "a", b"first")
        work = [*(world.put(bundle, "a", b"x") for _ in range(4)), remove(bundle), delete(bundle)]
        assert set(await asyncio.gather(*map(tried, work))) <= {"ok", "not_found"}
    await world.due()
    while await world.storage.remove_leftovers():
        pass

    assert world.files() == []
    assert await world.deployment.rows("SELECT * FROM storage_uploads") == []


async def test_a_plugin_s_object_has_the_limit_too(world: World) -> None:
    bundle = await world.bundle()
    with pytest.raises(ObjectTooLargeError) as caught:
        await world.put(bundle, "a", b"12345", world.storage_with(max_object_bytes=4))

    assert caught.value.kind == "validation"


async def test_without_a_folder_and_a_provider_there_is_nowhere_to_keep_objects(world: World) -> None:
    bundle = await world.bundle()
    with pytest.raises(ServiceError, match="LATCHFLOW_STORAGE_DIR"):
        await world.put(bundle, "a", b"x", world.storage_with(local=None))

    assert await world.deployment.rows("SELECT * FROM storage_uploads") == []


async def test_links_are_forgotten_a_month_after_they_expired(world: World) -> None:
    bundle = await world.bundle()
    for days in (29, 31):
        link = await world.storage.create_release_link(
            bundle, expires_in=timedelta(hours=1), max_downloads=None, actor="a"
        )
        statement = "UPDATE release_links SET expires_at = now() - %s::interval WHERE id = %s"
        await world.deployment.rows(statement, timedelta(days=days), link.id)
    await world.storage.remove_leftovers()

    assert len(await world.deployment.rows("SELECT * FROM release_links")) == 1


async def test_a_provider_that_breaks_or_does_not_read_makes_no_object(world: World) -> None:
    class Broken:
        async def put(self, upload: Any) -> None:
            raise RuntimeError("secret detail")

    class Lazy:
        async def put(self, upload: Any) -> None: ...

    bundle = await world.bundle()
    broken: dict[str, Any] = {"broken": Broken(), "lazy": Lazy()}
    world.providers.known = broken
    for name in broken:
        world.providers.current = name
        with pytest.raises(ServiceError) as caught:
            await world.put(bundle, "a", b"x")
        assert caught.value.kind == "fatal"
        assert "secret" not in str(caught.value)

    with pytest.raises(ServiceError, match="no object"):
        await world.read(bundle, "a")
