"""A plugin with everything that the SDK has, as a careful author would write it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from latchflow.sdk import (
    Accepted,
    ActionCall,
    ActionResult,
    Callback,
    EmailAddress,
    EmailAttachment,
    EmailDelivery,
    EmailLookup,
    EmailMessage,
    EmailProvider,
    Emit,
    HttpRequest,
    HttpResponse,
    InboundRequest,
    Invocation,
    Logger,
    Pending,
    PermanentFailure,
    Plugin,
    ProviderSetup,
    Reject,
    ReleaseLink,
    ResidentSetup,
    ResidentTrigger,
    Retry,
    RetryAfter,
    Schedule,
    SendResult,
    ServiceError,
    StorageProvider,
    StorageUpload,
    StoredObject,
    User,
)

plugin = Plugin()


class GreetConfig(BaseModel):
    name: str
    api_key: str | None = Field(None, json_schema_extra={"writeOnly": True})


def migrate(from_version: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**config, "name": config.get("name", from_version)}


@plugin.action(
    "greet",
    display_name="Greet",
    config_schema=GreetConfig,
    scopes=["email:send", "users:write", "storage:write"],
    stall_timeout_seconds=30,
    migrate_config=migrate,
)
async def greet(call: ActionCall[GreetConfig]) -> dict[str, str]:
    key: object = call.secrets["api_key"]
    call.logger.info("greets", name=call.config.name, has_key=key is not None)
    call.heartbeat({"percent": 50})
    try:
        sent: SendResult = await call.services.email.send(
            EmailMessage(
                to=[EmailAddress(address="a@example.org", display_name="A")],
                subject="Hello",
                text_body="Hello",
                attachments=(EmailAttachment(name="x.txt", content=b"x", content_type="text/plain"),),
            ),
            actor_id=call.invocation.invoker,
        )
    except ServiceError as error:
        if error.kind == "rate_limited":
            raise Retry(after=error.retry_after or timedelta(seconds=5), reason="rate limited") from error
        raise PermanentFailure("no such recipient", error_type="NoRecipient") from error
    answer: HttpResponse = await call.services.http.request(
        HttpRequest(method="POST", url="https://example.org", json={"a": 1}, timeout=timedelta(seconds=3)),
    )
    user: User = await call.services.users.invite("b@example.org", role="EXECUTOR")
    stored: StoredObject = await call.services.storage.put(UUID(int=1), "a/b.txt", _chunks())
    async for chunk in call.services.storage.get(stored.bundle_id, stored.path):
        call.logger.debug("read", size=len(chunk))
    link: ReleaseLink = await call.services.storage.create_release_link(
        stored.bundle_id, expires_in=timedelta(days=1), max_downloads=3
    )
    await call.services.resources.set_pipeline_enabled(str(UUID(int=2)), False)
    await call.services.resources.set_bundle_enabled(UUID(int=2), True, requested_scopes=("bundles:toggle",))
    return {"id": sent.provider_message_id, "status": str(answer.status), "user": user.status, "url": link.url}


async def _chunks() -> AsyncIterator[bytes]:
    yield b"content"


@plugin.action("plain", display_name="Plain", config_schema={"type": "object"}, inline=True)
def plain(call: ActionCall[Mapping[str, Any]]) -> Any:
    result: SendResult = call.wait(
        call.services.email.send(EmailMessage(to=[EmailAddress(address="a@example.org")], subject="x"))
    )
    where: Invocation = call.invocation
    left: timedelta = call.deadline - datetime.now(UTC)
    url: str = call.wait(call.callback_url())
    return [url, result.accepted_recipients, where.attempt, left.total_seconds(), call.is_payload_from_input]


async def carry_on(call: ActionCall[GreetConfig], state: Any) -> ActionResult | Pending:
    callback: Callback | None = call.callback
    if callback is not None:
        arrived: datetime = callback.received_at
        return ActionResult(output={"sent": callback.body, "as": callback.content_type, "at": arrived.isoformat()})
    if state["round"] < 3:
        return Pending(check_after=timedelta(minutes=1), state={"round": state["round"] + 1})
    return ActionResult(output={"done": call.idempotency_key})


@plugin.action("wait", display_name="Wait", config_schema=GreetConfig, resume=carry_on)
async def begin(call: ActionCall[GreetConfig]) -> Pending:
    url: str = await call.callback_url()
    return Pending(check_after=timedelta(seconds=1), state={"round": 0, "url": url}, deadline=call.deadline)


@plugin.action("classy", display_name="A class", config_schema=GreetConfig)
class Classy:
    def __init__(self) -> None:
        self.calls = 0

    async def execute(self, call: ActionCall[GreetConfig]) -> ActionResult:
        self.calls += 1
        return ActionResult(retry=RetryAfter(after=timedelta(seconds=1), reason=call.config.name))

    async def resume(self, call: ActionCall[GreetConfig], state: Any) -> dict[str, Any]:
        return {"state": state, "name": call.config.name}

    async def dispose(self) -> None:
        self.calls = 0


class HookConfig(BaseModel):
    token: str | None = Field(None, json_schema_extra={"writeOnly": True})


@plugin.inbound_trigger("hook", display_name="Hook", config_schema=HookConfig)
def hook(request: InboundRequest, config: HookConfig) -> Emit | Reject:
    if request.headers.get("x-token") != request.secrets.get("token", config.token):
        return Reject(status=401, reason="The token is not the one of the trigger.")
    return Emit(context={"size": len(request.body)}, key=request.query.get("id"), metadata={"path": request.path})


@plugin.inbound_trigger("hooks", display_name="Many at once", config_schema={"type": "object"})
async def hooks(request: InboundRequest, config: Mapping[str, Any]) -> list[Emit]:
    return [Emit(context={"line": line.decode(), **config}) for line in request.body.splitlines()]


class EveryConfig(BaseModel):
    expression: str


@plugin.scheduled_trigger("every", display_name="Every", config_schema=EveryConfig)
def every(config: EveryConfig) -> Schedule:
    return Schedule(expression=config.expression, timezone="Europe/Berlin", jitter=timedelta(seconds=5))


@plugin.resident_trigger("listen", display_name="Listen", config_schema=HookConfig)
class Listener(ResidentTrigger[HookConfig]):
    def __init__(self, setup: ResidentSetup[HookConfig]) -> None:
        super().__init__(setup)
        self.log: Logger = setup.logger

    async def start(self) -> None:
        accepted: Accepted = await self.emit(context={"cursor": self.cursor}, key="1", cursor={"seen": 1})
        self.log.info("emitted", event_id=str(accepted.event_id), token=self.config.token, known=accepted.is_duplicate)

    async def stop(self) -> None:
        self.log.info("stopped", secrets=len(self.secrets))

    async def on_config_change(self, setup: ResidentSetup[HookConfig]) -> None:
        self.setup = setup


class LetterConfig(BaseModel):
    office: str
    password: str | None = Field(None, json_schema_extra={"writeOnly": True})


@plugin.provider(
    kind="email",
    id="letter",
    display_name="Letters",
    config_schema=LetterConfig,
    defaults={"office": "LETTER_OFFICE"},
)
class Letters:
    def __init__(self, setup: ProviderSetup[LetterConfig]) -> None:
        self.setup = setup

    async def send(self, delivery: EmailDelivery) -> SendResult:
        addresses: Sequence[str] = await self.setup.network.resolve(self.setup.config.office, 443)
        answer = await self.setup.http.request(HttpRequest(method="POST", url=f"https://{addresses[0]}/send"))
        if answer.status >= 500:
            raise ServiceError("retryable", "the office is closed", retry_after=timedelta(hours=1))
        recipients = [entry.address for entry in delivery.message.to]
        return SendResult(provider_message_id=delivery.message_id, accepted_recipients=recipients)

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        return None


@plugin.provider(kind="storage", id="shelf", display_name="Shelf", config_schema={"type": "object"})
class Shelf:
    def __init__(self, setup: ProviderSetup[Mapping[str, Any]]) -> None:
        self.kept: dict[str, bytes] = {}
        self.name: object = setup.config.get("name")

    async def put(self, upload: StorageUpload) -> None:
        self.kept[upload.key] = b"".join([chunk async for chunk in upload.chunks])

    async def get(self, key: str) -> AsyncIterator[bytes]:
        if key not in self.kept:
            raise ServiceError("not_found", f"{key} is not on the shelf")
        yield self.kept[key]

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)


def conforms(email: ProviderSetup[LetterConfig], storage: ProviderSetup[Mapping[str, Any]]) -> None:
    provider: EmailProvider = Letters(email)
    lookup: EmailLookup = Letters(email)
    shelf: StorageProvider = Shelf(storage)
    del provider, lookup, shelf


@plugin.on_dispose
async def dispose() -> None:
    pass
