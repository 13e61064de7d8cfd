"""What the guard needs of each service. All run on the host's loop."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from latchflow.runtime.guard.grant import Handle
from latchflow.sdk import (
    EmailMessage,
    HttpRequest,
    HttpResponse,
    ReleaseLink,
    SendResult,
    StoredObject,
    User,
    UserPage,
)
from latchflow.sdk.users import Role


class EmailBackend(Protocol):
    """Sends mails through the active provider, or by SMTP."""

    async def send(self, message: EmailMessage, *, effect: Handle, deadline: datetime) -> SendResult:
        """Send one mail; says through `effect` which provider gets it."""
        ...

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        """What became of a mail that was handed to the provider `via`; None when it does not have it.

        Raises:
            ServiceError: ``outcome_unknown`` when that provider cannot say.
        """
        ...


class HttpBackend(Protocol):
    """Sends a request through the egress guard."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send one request; its `timeout` is set."""
        ...


class StorageBackend(Protocol):
    """Bundles, objects and links."""

    async def put(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> StoredObject:
        """Write an object."""
        ...

    def get(self, bundle_id: UUID, path: str) -> AsyncIterator[bytes]:
        """The content of an object."""
        ...

    async def create_release_link(
        self, bundle_id: UUID, *, expires_in: timedelta, max_downloads: int | None, key: str, actor: str
    ) -> ReleaseLink:
        """Make a link; a repetition with the same key replaces the one it made before."""
        ...


class UserBackend(Protocol):
    """The users of the deployment."""

    async def invite(self, email: str, *, role: Role, effect: Handle, deadline: datetime, actor: str) -> User:
        """Make a user and send the invitation; a user who is there is returned and gets no mail."""
        ...

    async def find_invited(
        self, email: str, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> User | None:
        """The user whom an effect that was cut off invited; None when its mail surely was not sent.

        Raises:
            ServiceError: ``outcome_unknown`` when nobody can say.
        """
        ...

    async def get(self, user_id: UUID) -> User:
        """One user."""
        ...

    async def list(self, *, limit: int, cursor: str | None) -> UserPage:
        """Users by address."""
        ...


class ResourceBackend(Protocol):
    """Switches things on and off."""

    async def set_bundle_enabled(self, bundle_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Set a bundle's state."""
        ...

    async def set_pipeline_enabled(self, pipeline_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Set a pipeline's state."""
        ...


class CallbackBackend(Protocol):
    """Addresses under which invocations are called back."""

    async def mint(self, invocation_id: UUID, *, attempt: int) -> str:
        """A new address of an invocation, for the attempt with this number."""
        ...


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The services of this process."""

    email: EmailBackend
    http: HttpBackend
    storage: StorageBackend
    users: UserBackend
    resources: ResourceBackend
    callbacks: CallbackBackend
