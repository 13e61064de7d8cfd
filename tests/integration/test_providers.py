"""Providers at run time: which one is used, what it is made of, what its faults become."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import pytest

from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.providers.host_services import HostServices
from latchflow.runtime.providers.provider_states import provider_states
from latchflow.runtime.providers.providers import Providers
from latchflow.runtime.providers.storage_providers import StorageProviders
from latchflow.runtime.providers.system_config import NewValue
from latchflow.sdk import (
    EmailAddress,
    EmailDelivery,
    EmailMessage,
    HttpRequest,
    Plugin,
    ProviderSetup,
    SendResult,
    ServiceError,
    StorageUpload,
)
from latchflow.store import places
from tests.support.execution import Deployment
from tests.support.hosts import add_providers, running_host
from tests.support.registries import NAME, registry_of

SCHEMA = {
    "type": "object",
    "properties": {"mode": {"type": "string"}, "password": {"type": "string", "writeOnly": True}},
    "required": ["mode"],
}
MAIL = EmailMessage(to=[EmailAddress(address="a@example.org")], subject="s")


class Post:
    """What the providers of these tests have done."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any, Any]] = []
        self.sent: list[tuple[str, str]] = []
        self.threads: set[str] = set()
        self.disposed: list[str] = []
        self.hangs = threading.Event()

    def plugin(self, *ids: str, kind: Literal["email", "storage"] = "email") -> Plugin:
        plugin = Plugin()
        for identifier in ids:
            base = Letters if kind == "email" else Shelf
            provider = type(identifier.title(), (base,), {"identifier": identifier, "post": self})
            plugin.provider(
                kind=kind,
                id=identifier,
                display_name=identifier.title(),
                config_schema=SCHEMA,
                defaults={"mode": f"ACME_{identifier.upper()}_MODE"},
            )(provider)
        return plugin


class Letters:
    """A provider whose config says how it behaves."""

    identifier: ClassVar[str]
    post: ClassVar[Post]

    def __init__(self, setup: ProviderSetup[Any]) -> None:
        asyncio.get_running_loop()
        self.post.made.append((self.identifier, dict(setup.config), dict(setup.secrets)))
        self.setup = setup
        self.mode = setup.config["mode"]
        if self.mode == "unmakable":
            raise ValueError(f"cannot be made with {setup.secrets['password']}")

    async def send(self, delivery: EmailDelivery) -> SendResult:
        self.post.threads.add(threading.current_thread().name)
        self.post.sent.append((self.identifier, self.mode))
        await getattr(self, f"_{self.mode}", self._works)()
        if self.mode == "nothing":
            return None  # type: ignore[return-value]
        return SendResult(provider_message_id=delivery.message_id, accepted_recipients=("a@example.org",))

    async def dispose(self) -> None:
        self.post.disposed.append(self.mode)

    async def _works(self) -> None:
        pass

    async def _raise(self) -> None:
        raise RuntimeError(f"{self.setup.secrets['password']} did not work")

    async def _refuse(self) -> None:
        self.setup.logger.info("refusing", password=self.setup.secrets["password"])
        raise ServiceError("rate_limited", f"{self.setup.secrets['password']} is too quick")

    async def _exit(self) -> None:
        raise SystemExit(0)

    async def _hang(self) -> None:
        self.post.hangs.set()
        await asyncio.sleep(60)

    async def _outside(self) -> None:
        await self.setup.http.request(HttpRequest(method="GET", url="http://127.0.0.1:9/"))

    async def _network(self) -> None:
        await self.setup.network.resolve("169.254.169.254", 80)


class Shelf(Letters):
    """Keeps nothing."""

    async def put(self, upload: StorageUpload) -> None: ...
    async def get(self, key: str) -> AsyncIterator[bytes]:
        yield b""

    async def delete(self, key: str) -> None: ...


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
async def registry(post: Post, deployment: Deployment) -> AsyncIterator[Registry]:
    registry = registry_of(post.plugin("alpha", "beta"))
    await add_providers(deployment, registry)
    yield registry
    registry.close()


@pytest.fixture
async def host(deployment: Deployment, registry: Registry) -> AsyncIterator[HostServices]:
    async with running_host(deployment, registry) as services:
        yield services


class _Effect:
    key = "k"

    async def via(self, provider: str) -> None:
        pass


async def configure(host: HostServices, identifier: str, mode: str) -> None:
    value = {"mode": mode, "password": "hunter2-hunter2"}
    await host.config.put({f"PLUGIN_ACME_TESTING_PROVIDER_{identifier.upper()}": NewValue(value=value)}, actor="test")


async def send(host: HostServices, seconds: float = 10) -> SendResult | ServiceError:
    try:
        return await host.mail.send(MAIL, effect=_Effect(), deadline=datetime.now(UTC) + timedelta(seconds=seconds))
    except ServiceError as error:
        return error


def kind(result: SendResult | ServiceError) -> str:
    return result.kind if isinstance(result, ServiceError) else "sent"


async def test_without_any_config_nobody_sends(host: HostServices, post: Post) -> None:
    error = await send(host)

    assert kind(error) == "fatal"
    assert "SMTP_URL" in str(error)
    assert post.made == []


async def test_the_provider_runs_on_the_loop_of_its_plugin_with_its_secrets_apart(
    host: HostServices, post: Post
) -> None:
    await configure(host, "alpha", "works")

    assert kind(await send(host)) == "sent"
    assert post.made == [("alpha", {"mode": "works"}, {"password": "hunter2-hunter2"})]
    assert post.threads == {f"plugin {NAME}"}


async def test_what_the_database_configures_goes_before_what_the_environment_does(
    host: HostServices, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_ALPHA_MODE", "works")
    await send(host)
    await configure(host, "beta", "works")
    await send(host)

    assert post.sent == [("alpha", "works"), ("beta", "works")]


async def test_of_equals_the_first_by_name_sends(host: HostServices, post: Post) -> None:
    await configure(host, "beta", "works")
    await configure(host, "alpha", "works")
    await send(host)

    assert post.sent == [("alpha", "works")]


async def test_one_that_cannot_be_used_is_passed_over(host: HostServices, post: Post, deployment: Deployment) -> None:
    await configure(host, "beta", "works")
    await configure(host, "alpha", "unmakable")
    await send(host)
    # As after a change of the schema: what is stored no longer fits.
    sealed = deployment.keyring.seal_json({}, "system_config/PLUGIN_ACME_TESTING_PROVIDER_ALPHA/value")
    await deployment.rows("UPDATE system_config SET value_sealed = %s WHERE key LIKE '%%ALPHA'", sealed)
    await send(host)
    async with deployment.database.connection() as connection:
        states = await provider_states(connection, host.config)
    alpha, beta = states[NAME, "alpha"], states[NAME, "beta"]

    assert post.sent == [("beta", "works"), ("beta", "works")]
    assert (alpha.is_configured, alpha.problem) == (False, "/mode: This property is required.")
    assert (beta.is_active, alpha.is_active) == (True, False)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("raise", "outcome_unknown"),
        ("exit", "outcome_unknown"),
        ("nothing", "outcome_unknown"),
        ("refuse", "rate_limited"),
        ("outside", "denied"),
        ("network", "denied"),
    ],
)
async def test_what_a_fault_of_a_provider_becomes(
    host: HostServices, mode: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await configure(host, "alpha", mode)

    error = await send(host)

    assert kind(error) == expected
    assert "hunter2" not in str(error)
    assert "hunter2" not in capsys.readouterr().out


async def test_a_provider_that_does_not_answer_in_time_leaves_the_outcome_unknown(host: HostServices) -> None:
    await configure(host, "alpha", "hang")

    assert kind(await send(host, seconds=0.3)) == "outcome_unknown"


async def test_an_unchanged_config_makes_one_instance_and_a_changed_one_puts_it_away(
    host: HostServices, post: Post
) -> None:
    await configure(host, "alpha", "works")
    await asyncio.gather(*(send(host) for _ in range(5)))
    await configure(host, "alpha", "network")
    await send(host)

    assert [config["mode"] for _, config, _ in post.made] == ["works", "network"]
    assert post.disposed == ["works"]


async def test_one_in_use_is_put_away_when_it_is_done(host: HostServices, post: Post) -> None:
    await configure(host, "alpha", "hang")
    slow = asyncio.create_task(send(host))
    await asyncio.to_thread(post.hangs.wait, 5)
    await configure(host, "alpha", "works")
    await send(host)
    before = list(post.disposed)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert before == []
    assert post.disposed == ["hang"]


async def test_all_are_put_away_at_the_end(deployment: Deployment, registry: Registry, post: Post) -> None:
    async with running_host(deployment, registry) as host:
        await configure(host, "alpha", "works")
        await send(host)

    assert post.disposed == ["works"]


async def test_a_trial_uses_a_config_that_is_not_stored(host: HostServices, post: Post) -> None:
    providers: Providers = host.providers
    async with providers.trial("PLUGIN_ACME_TESTING_PROVIDER_ALPHA", {"mode": "trial"}) as running:
        assert running.name == f"{NAME}/alpha"

    assert post.disposed == ["trial"]
    assert kind(await send(host)) == "fatal"


async def test_what_became_of_a_mail_is_asked_again_while_its_provider_cannot_be_made(
    host: HostServices, post: Post
) -> None:
    await configure(host, "alpha", "unmakable")

    async def found(via: str) -> ServiceError:
        deadline = datetime.now(UTC) + timedelta(seconds=10)
        with pytest.raises(ServiceError) as caught:
            await host.mail.find(MAIL, idempotency_key="k", via=via, deadline=deadline)
        return caught.value

    assert (await found(f"{NAME}/alpha")).kind == "retryable"
    assert (await found(f"{NAME}/beta")).kind == "outcome_unknown"


@pytest.mark.parametrize("mode", ["unmakable", 7])
async def test_what_a_configured_provider_cannot_keep_is_not_kept_elsewhere(
    deployment: Deployment, post: Post, mode: Any
) -> None:
    registry = registry_of(post.plugin("alpha", kind="storage"))
    await add_providers(deployment, registry)
    async with running_host(deployment, registry) as host:
        storage = StorageProviders(host.providers)
        async with storage.active() as before:
            assert before is None
        key = "PLUGIN_ACME_TESTING_PROVIDER_ALPHA"
        sealed = deployment.keyring.seal_json({"mode": mode, "password": "hunter2"}, places.system_config(key))
        await deployment.rows(
            "INSERT INTO system_config (key, value_sealed, is_secret, updated_by) VALUES (%s, %s, false, 'test')",
            key,
            sealed,
        )

        with pytest.raises(ServiceError) as caught:
            async with storage.active():
                pass
    registry.close()

    assert caught.value.kind == "retryable"
