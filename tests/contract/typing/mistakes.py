"""Mistakes of authors. Each line that ends in ``# E: code`` must be an error of that code, and no other may be one."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from latchflow.sdk import (
    ActionCall,
    ActionResult,
    EmailAddress,
    EmailDelivery,
    EmailMessage,
    EmailProvider,
    Emit,
    InboundRequest,
    Pending,
    Plugin,
    ProviderSetup,
    Reject,
    ResidentSetup,
    ResidentTrigger,
    Retry,
    Schedule,
    ServiceError,
    StorageProvider,
    StorageUpload,
)

plugin = Plugin()


class Config(BaseModel):
    name: str


@plugin.action("no-call", display_name="x", config_schema=Config)  # E: type-var
async def no_call() -> None: ...


@plugin.action("wrong-call", display_name="x", config_schema=Config)  # E: type-var
async def wrong_call(request: InboundRequest) -> None: ...


@plugin.action("two", display_name="x", config_schema=Config)  # E: type-var
async def two(call: ActionCall[Config], more: int) -> None: ...


@plugin.action("no-execute", display_name="x", config_schema=Config)
class NoExecute:  # E: type-var
    async def run(self, call: ActionCall[Config]) -> None: ...


@plugin.action("no-name", config_schema=Config)  # E: call-arg
async def no_name(call: ActionCall[Config]) -> None: ...


@plugin.action("resume", display_name="x", config_schema=Config, resume=no_call)  # E: arg-type
async def resume(call: ActionCall[Config]) -> Pending:
    return Pending(state={})  # E: call-arg


async def calls(call: ActionCall[Config]) -> dict[str, Any]:
    call.config = Config(name="x")  # E: misc
    call.config.nmae  # E: attr-defined
    call.secrets["a"] = "b"  # E: index
    call.payload.clear()  # E: attr-defined
    call.invocation.attempt += 1  # E: misc
    call.services.email.send(EmailMessage(to=[], subject="x"))  # E: unused-coroutine
    call.callback_url()  # E: unused-coroutine
    call.callback.body  # E: union-attr
    await call.services.email.send("hello")  # E: arg-type
    EmailMessage([EmailAddress(address="a@b.c")], "x")  # E: call-arg
    await call.services.users.invite("a@b.c", role="OWNER")  # E: arg-type
    await call.services.storage.create_release_link("x", expires_in=60)  # E: arg-type
    await call.services.postbox.send()  # E: attr-defined
    raise ServiceError("oops", "x")  # E: arg-type


def answers() -> None:
    Retry(timedelta(1), "x")  # E: call-arg
    Retry(after=5, reason="x")  # E: arg-type
    ActionResult({"a": 1})  # E: call-arg
    Reject(status=418, reason="x")  # E: arg-type
    Emit(context="x")  # E: arg-type
    emit = Emit(context={})
    emit.key = "x"  # E: misc
    Schedule("* * * * *")  # E: call-arg


@plugin.inbound_trigger("text", display_name="x", config_schema=Config)  # E: type-var
def text(request: InboundRequest, config: Config) -> str:
    return config.name


@plugin.inbound_trigger("one", display_name="x", config_schema=Config)  # E: type-var
def one(request: InboundRequest) -> Emit:
    return Emit(context={})


@plugin.scheduled_trigger("cron", display_name="x", config_schema=Config)  # E: type-var
def cron(config: Config) -> str:
    return "* * * * *"


@plugin.resident_trigger("stranger", display_name="x", config_schema=Config)
class Stranger:  # E: type-var
    async def start(self) -> None: ...


class Listener(ResidentTrigger[Config]):
    def start(self) -> None:  # E: override
        self.setup.cursor = 1  # E: misc

    async def stop(self) -> None:
        await self.emit({"a": 1})  # E: call-arg
        self.config.nmae  # E: attr-defined


@plugin.provider(kind="letter", id="x", display_name="x", config_schema=Config)  # E: call-overload
class OfNoKind:
    def __init__(self, setup: ProviderSetup[Config]) -> None: ...


@plugin.provider(kind="email", id="y", display_name="x", config_schema=Config)
class WithoutSend:  # E: type-var
    def __init__(self, setup: ProviderSetup[Config]) -> None: ...


@plugin.provider(kind="storage", id="z", display_name="x", config_schema=Config)
class WithoutDelete:  # E: type-var
    def __init__(self, setup: ProviderSetup[Config]) -> None: ...

    async def put(self, upload: StorageUpload) -> None: ...

    async def get(self, key: str) -> AsyncIterator[bytes]:
        yield key.encode()


class Letters:
    def __init__(self, setup: ProviderSetup[Config]) -> None:
        setup.secrets["a"] = "b"  # E: index
        setup.config.nmae  # E: attr-defined

    def send(self, delivery: EmailDelivery) -> None: ...


def provides(setup: ProviderSetup[Config], resident: ResidentSetup[Mapping[str, Any]]) -> None:
    email: EmailProvider = Letters(setup)  # E: assignment
    storage: StorageProvider = Letters(setup)  # E: assignment
    Listener(resident)  # E: arg-type
    del email, storage
