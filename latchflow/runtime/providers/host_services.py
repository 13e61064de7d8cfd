"""The services that worker and API have in common, wired together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from latchflow.crypto import Keyring
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.providers.providers import Providers
from latchflow.runtime.providers.storage_providers import StorageProviders
from latchflow.runtime.providers.system_config import SystemConfig
from latchflow.sdk import ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.email import SmtpEmail
from latchflow.services.http import GuardedHttp
from latchflow.services.live_egress import LiveEgressGuard
from latchflow.services.mail import Mail
from latchflow.services.storage import Storage, storage_of
from latchflow.settings import Settings
from latchflow.store.database import Database


@dataclass(frozen=True, kw_only=True)
class HostServices:
    """What reaches outside from this process, as it is configured now.

    Attributes:
        guard: The egress guard.
        providers: Of the plugins this process has loaded.
        mail: Through the active provider, else by SMTP.
        storage: With the active provider, else in a folder.
    """

    config: SystemConfig
    guard: LiveEgressGuard
    http: GuardedHttp
    providers: Providers
    mail: Mail
    storage: Storage


@asynccontextmanager
async def open_services(
    settings: Settings, database: Database, keyring: Keyring, registry: Callable[[], Registry]
) -> AsyncIterator[HostServices]:
    """Make the services; close them before the registry, whose loops the providers run on.

    Raises:
        ConfigurationError: A mail or egress setting of the environment is malformed; the message names it.
    """
    check_settings(settings)
    config = SystemConfig(database, keyring, settings)
    guard = LiveEgressGuard(config.egress_allow)

    async def smtp() -> SmtpEmail | None:
        try:
            url, sender = await config.smtp()
            return SmtpEmail(url, sender, guard) if url else None
        except UnavailableError as error:
            raise ServiceError("retryable", f"SMTP_URL cannot be read now: {error.message}") from error
        except LatchflowError as error:
            raise ServiceError("fatal", error.message) from error

    async with AsyncExitStack() as stack:
        http = GuardedHttp(guard)
        stack.push_async_callback(http.close_all)
        providers = Providers(registry, config, http=http, network=guard)
        stack.push_async_callback(providers.aclose)
        yield HostServices(
            config=config,
            guard=guard,
            http=http,
            providers=providers,
            mail=Mail(providers, smtp),
            storage=storage_of(settings, database, StorageProviders(providers)),
        )


def check_settings(settings: Settings) -> None:
    """Refuse mail and egress settings that cannot be used, before anything starts.

    Raises:
        ConfigurationError: The message names the setting.
    """
    guard = EgressGuard(settings.http_egress_allow)
    SmtpEmail(settings.smtp_url.get_secret_value(), settings.smtp_from, guard)
