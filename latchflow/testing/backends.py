"""Core's services as the harness has them: the same checks and answers, kept in memory instead of on a wire."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from latchflow.runtime.guard import Backends, HttpBackend
from latchflow.runtime.guard.grant import Handle
from latchflow.sdk import (
    EmailAddress,
    EmailMessage,
    HttpRequest,
    HttpResponse,
    ReleaseLink,
    SendResult,
    ServiceError,
    StoredObject,
    User,
    UserPage,
)
from latchflow.sdk.users import Role
from latchflow.services.email_message import build, check, message_id, recipients
from latchflow.services.http_request import checked
from latchflow.services.object_paths import check_content_type, check_path
from latchflow.store.callbacks import MOST_OPEN

_SENDER = EmailAddress(address="latchflow@example.org")


@dataclass
class Outbox:
    """Where mails end up."""

    sent: list[EmailMessage] = field(default_factory=list)

    async def send(self, message: EmailMessage, *, effect: Handle, deadline: datetime) -> SendResult:
        """Keep the mail, once it could have been sent."""
        check(message)
        built = build(message, message.sender or _SENDER, message_id(message, effect.key))
        await effect.via("outbox")
        self.sent.append(message)
        return SendResult(provider_message_id=built["Message-ID"], accepted_recipients=recipients(message))

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        """Nothing can be asked here."""
        raise ServiceError("outcome_unknown", "The outbox cannot be asked what became of a mail.")


@dataclass
class ScriptedHttp:
    """Answers requests from a list; when that is empty, every one with status 200 and no body.

    Attributes:
        requests: What was asked, in order.
    """

    answers: list[HttpResponse] = field(default_factory=list)
    requests: list[HttpRequest] = field(default_factory=list)

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Give the next answer."""
        self.requests.append(checked(request))
        return self.answers.pop(0) if self.answers else HttpResponse(status=200, headers={}, content=b"")


@dataclass
class Files:
    """Bundles and their objects; every id is a bundle, on unless it was switched off.

    Attributes:
        contents: By bundle and path.
    """

    contents: dict[tuple[UUID, str], bytes] = field(default_factory=dict)
    links: list[ReleaseLink] = field(default_factory=list)

    async def put(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> StoredObject:
        """Keep an object."""
        check_path(path)
        check_content_type(content_type)
        content = b"".join([chunk async for chunk in chunks])
        self.contents[bundle_id, path] = content
        digest = hashlib.sha256(content).hexdigest()
        return StoredObject(bundle_id=bundle_id, path=path, size=len(content), sha256=digest, content_type=content_type)

    async def get(self, bundle_id: UUID, path: str) -> AsyncIterator[bytes]:
        """Hand an object out, in chunks."""
        try:
            content = self.contents[bundle_id, path]
        except KeyError:
            raise ServiceError("not_found", f"The bundle {bundle_id} has no object {path!r}.") from None
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    async def create_release_link(
        self, bundle_id: UUID, *, expires_in: timedelta, max_downloads: int | None, key: str, actor: str
    ) -> ReleaseLink:
        """Make a link that leads nowhere."""
        link_id = uuid5(bundle_id, key)
        url = f"https://latchflow.example/release/{link_id}"
        link = ReleaseLink(id=link_id, url=url, expires_at=datetime.now(UTC) + expires_in)
        self.links.append(link)
        return link


@dataclass
class People:
    """Users.

    Attributes:
        users: By address.
    """

    users: dict[str, User] = field(default_factory=dict)

    async def invite(self, email: str, *, role: Role, effect: Handle, deadline: datetime, actor: str) -> User:
        """Make a user; no mail is sent."""
        if email.count("@") != 1 or any(character.isspace() for character in email):
            raise ServiceError("validation", f"{email!r} is no address.")
        user = User(id=uuid4(), email=email, role=role, status="INVITED")
        return self.users.setdefault(email.lower(), user)

    async def find_invited(
        self, email: str, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> User | None:
        """The user, if there is one by now."""
        return self.users.get(email.lower())

    async def get(self, user_id: UUID) -> User:
        """One user."""
        for user in self.users.values():
            if user.id == user_id:
                return user
        raise ServiceError("not_found", f"There is no user {user_id}.")

    async def list(self, *, limit: int, cursor: str | None) -> UserPage:
        """Users by address."""
        found = [user for email, user in sorted(self.users.items()) if cursor is None or email > cursor]
        next_cursor = found[limit - 1].email.lower() if len(found) > limit else None
        return UserPage(items=found[:limit], next_cursor=next_cursor)


@dataclass
class Switches:
    """What was switched on and off.

    Attributes:
        states: By kind (``bundle`` or ``pipeline``) and id.
    """

    states: dict[tuple[str, UUID], bool] = field(default_factory=dict)

    async def set_bundle_enabled(self, bundle_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Keep a bundle's state."""
        self.states["bundle", bundle_id] = is_enabled

    async def set_pipeline_enabled(self, pipeline_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Keep a pipeline's state."""
        self.states["pipeline", pipeline_id] = is_enabled


@dataclass
class CallbackAddresses:
    """Addresses that lead nowhere; `Harness.run` takes what was sent to them.

    Attributes:
        urls: What actions were given, by invocation.
    """

    urls: dict[UUID, list[str]] = field(default_factory=dict)

    async def mint(self, invocation_id: UUID, *, attempt: int) -> str:
        """Make another one."""
        urls = self.urls.setdefault(invocation_id, [])
        if len(urls) >= MOST_OPEN:
            raise ServiceError("fatal", f"This invocation has {MOST_OPEN} callback addresses that nobody has called.")
        urls.append(f"https://latchflow.example/callbacks/lfk_{invocation_id.hex}_{len(urls) + 1}")
        return urls[-1]


@dataclass
class Services:
    """Every service of the harness, to look at and to prepare."""

    email: Outbox = field(default_factory=Outbox)
    http: HttpBackend = field(default_factory=ScriptedHttp)
    storage: Files = field(default_factory=Files)
    users: People = field(default_factory=People)
    resources: Switches = field(default_factory=Switches)
    callbacks: CallbackAddresses = field(default_factory=CallbackAddresses)

    @property
    def backends(self) -> Backends:
        """As the guard takes them."""
        return Backends(
            email=self.email,
            http=self.http,
            storage=self.storage,
            users=self.users,
            resources=self.resources,
            callbacks=self.callbacks,
        )


def failing(services: Services) -> Backends:
    """Services of which every call fails and says that another attempt may do better."""

    async def fail() -> None:
        raise ServiceError("retryable", "The service is away.")

    return _before(services, fail)


def hanging(services: Services, reached: Callable[[], None]) -> Backends:
    """Services of which no call ever returns; each says first that it was `reached`."""

    async def hang() -> None:
        reached()
        await asyncio.get_running_loop().create_future()

    return _before(services, hang)


def _before(services: Services, what: Callable[[], Awaitable[None]]) -> Backends:
    part: Any = _Interposed(what)
    return Backends(email=part, http=part, storage=_InterposedFiles(what), users=part, resources=part, callbacks=part)


class _Interposed:
    """A service of which every call ends as `what` does."""

    def __init__(self, what: Callable[[], Awaitable[None]]) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> None:
            await self._what()

        return call


class _InterposedFiles(Files):
    def __init__(self, what: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._what = what

    async def put(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> StoredObject:
        await self._what()
        return await super().put(bundle_id, path, chunks, content_type=content_type, actor=actor)

    async def get(self, bundle_id: UUID, path: str) -> AsyncIterator[bytes]:
        await self._what()
        async for chunk in super().get(bundle_id, path):
            yield chunk

    async def create_release_link(
        self, bundle_id: UUID, *, expires_in: timedelta, max_downloads: int | None, key: str, actor: str
    ) -> ReleaseLink:
        await self._what()
        return await super().create_release_link(
            bundle_id, expires_in=expires_in, max_downloads=max_downloads, key=key, actor=actor
        )
