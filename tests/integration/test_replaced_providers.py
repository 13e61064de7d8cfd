"""Providers of a plugin that is replaced, or put away, while they are wanted."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.providers.host_services import HostServices, open_services
from latchflow.sdk import EmailDelivery, ServiceError
from latchflow.settings import Settings
from tests.integration.test_providers import MAIL, Post, configure, kind, send
from tests.support.execution import FAKE_KEY, Deployment
from tests.support.hosts import add_providers, running_host
from tests.support.registries import NAME, registry_of


class Held:
    """A read of the system config that takes until it is let go."""

    def __init__(self, host: HostServices, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        stored = host.config.stored

        async def slow(keys: Sequence[str]) -> Any:
            found = await stored(keys)
            self.begun.set()
            await self.go.wait()
            return found

        monkeypatch.setattr(host.config, "stored", slow)


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_a_mail_whose_provider_goes_while_its_config_is_read_is_sent_by_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    post, later = Post(), Post()
    registry, live = registry_of(post.plugin("alpha")), LiveRegistry()
    live.put(registry)
    await add_providers(deployment, registry)
    settings = Settings.model_validate({"DATABASE_URL": deployment.urls.url, "ENCRYPTION_KEY": FAKE_KEY})
    async with open_services(settings, deployment.database, deployment.keyring, lambda: live.snapshot) as host:
        live.before_disposal(host.providers.let_go)
        await configure(host, "alpha", "works")
        held = Held(host, monkeypatch)
        sending = asyncio.create_task(send(host))
        await held.begun.wait()
        if is_replaced:
            live.put(registry_of(later.plugin("alpha")))
        else:
            live.take_out(NAME)
        await asyncio.sleep(0.1)  # a version that nobody uses would be gone by now
        held.go.set()

        assert kind(await sending) == "sent"
        async with asyncio.timeout(5):
            while live.is_leaving(NAME, "c0de"):
                await asyncio.sleep(0.02)
        await live.close()

    assert (post.sent, later.sent) == ([("alpha", "works")], [])
    assert post.disposed == ["works"]


async def test_a_closed_loop_did_nothing(deployment: Deployment) -> None:
    registry = registry_of(Post().plugin("alpha"))
    await add_providers(deployment, registry)
    async with running_host(deployment, registry) as host:
        await configure(host, "alpha", "works")
        async with host.providers.active_email() as provider:
            assert provider is not None
            registry.close()
            deadline = datetime.now(UTC) + timedelta(seconds=5)
            with pytest.raises(ServiceError) as caught:
                await provider.send(
                    EmailDelivery(message=MAIL, message_id="<a@b>", idempotency_key="k", deadline=deadline)
                )

    assert caught.value.kind == "retryable"


async def test_one_that_cannot_be_made_holds_up_mails_once_and_no_other_provider(deployment: Deployment) -> None:
    post = Post()
    registry = registry_of(post.plugin("alpha", "beta"))
    await add_providers(deployment, registry)
    async with running_host(deployment, registry) as host:
        await configure(host, "beta", "works")
        await send(host)
        await configure(host, "alpha", "unmakable")
        results = await asyncio.gather(*(send(host) for _ in range(3)))
    registry.close()

    assert [kind(result) for result in results] == ["sent"] * 3
    assert [identifier for identifier, _, _ in post.made] == ["beta", "alpha"]
