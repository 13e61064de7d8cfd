"""`Plugin`: where an author registers capabilities. Name, version and scopes stand in ``plugin.toml``, only there."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from latchflow.sdk.actions import Action, ActionCall
from latchflow.sdk.capabilities import (
    ActionCapability,
    ConfigSchema,
    InboundAnswer,
    InboundCapability,
    MigrateConfig,
    ProviderDeclaration,
    ResidentCapability,
    ScheduledCapability,
)
from latchflow.sdk.email import EmailProvider
from latchflow.sdk.providers import ProviderSetup
from latchflow.sdk.residents import ResidentTrigger
from latchflow.sdk.schedules import Schedule
from latchflow.sdk.storage import StorageProvider
from latchflow.sdk.triggers import InboundRequest

ActionT = TypeVar("ActionT", bound=Callable[[ActionCall[Any]], Any] | type[Action])
InboundT = TypeVar("InboundT", bound=Callable[[InboundRequest, Any], InboundAnswer | Awaitable[InboundAnswer]])
ScheduledT = TypeVar("ScheduledT", bound=Callable[[Any], Schedule])
ResidentT = TypeVar("ResidentT", bound=type[ResidentTrigger[Any]])
ProviderT = TypeVar("ProviderT", bound=Callable[[Any], Any])
EmailProviderT = TypeVar("EmailProviderT", bound=Callable[[ProviderSetup[Any]], EmailProvider])
StorageProviderT = TypeVar("StorageProviderT", bound=Callable[[ProviderSetup[Any]], StorageProvider])
DisposeT = TypeVar("DisposeT", bound=Callable[[], Any])


class Plugin:
    """The capabilities of one plugin; the package binds it as ``plugin``."""

    def __init__(self) -> None:
        self.actions: list[ActionCapability] = []
        self.inbound_triggers: list[InboundCapability] = []
        self.scheduled_triggers: list[ScheduledCapability] = []
        self.resident_triggers: list[ResidentCapability] = []
        self.providers: list[ProviderDeclaration] = []
        self.disposers: list[Callable[[], Any]] = []

    def action(
        self,
        key: str,
        *,
        display_name: str,
        config_schema: ConfigSchema,
        scopes: Sequence[str] = (),
        inline: bool = False,
        resume: Callable[[ActionCall[Any], Any], Any] | None = None,
        stall_timeout_seconds: float | None = None,
        migrate_config: MigrateConfig | None = None,
    ) -> Callable[[ActionT], ActionT]:
        """Register an action: ``async def`` or plain ``def`` (run in a thread) taking one `ActionCall`, or a class.

        Args:
            key: Unique among the plugin's actions; letters, digits, ``.``, ``_`` and ``-``.
            display_name: Shown to admins.
            config_schema: What a definition's config must satisfy.
            scopes: Scopes the action uses; each must stand in ``plugin.toml`` too.
            inline: The action is pure, quick and idempotent, so that core may run it with less ceremony. Kept with
                the capability; this version carries it out like any other.
            resume: Of a function that may answer `Pending`: called as ``resume(call, state)``. A class has a method.
            stall_timeout_seconds: End the attempt when ``call.heartbeat`` was not called for this long.
            migrate_config: ``(from_version, config) -> config``, for definitions that an earlier version saved.
        """

        def register(action: ActionT) -> ActionT:
            self.actions.append(
                ActionCapability(
                    key=key,
                    display_name=display_name,
                    config_schema=config_schema,
                    migrate_config=migrate_config,
                    action=action,
                    resume=resume,
                    scopes=tuple(scopes),
                    is_inline=inline,
                    stall_timeout_seconds=stall_timeout_seconds,
                )
            )
            return action

        return register

    def inbound_trigger(
        self,
        key: str,
        *,
        display_name: str,
        config_schema: ConfigSchema,
        migrate_config: MigrateConfig | None = None,
    ) -> Callable[[InboundT], InboundT]:
        """Register a trigger behind ``/hooks/{triggerId}``: ``(request, config) -> Emit | Reject | list[Emit]``."""

        def register(function: InboundT) -> InboundT:
            self.inbound_triggers.append(
                InboundCapability(
                    key=key,
                    display_name=display_name,
                    config_schema=config_schema,
                    migrate_config=migrate_config,
                    function=function,
                )
            )
            return function

        return register

    def scheduled_trigger(
        self,
        key: str,
        *,
        display_name: str,
        config_schema: ConfigSchema,
        migrate_config: MigrateConfig | None = None,
    ) -> Callable[[ScheduledT], ScheduledT]:
        """Register a trigger that fires by the clock: ``config -> Schedule``, pure."""

        def register(function: ScheduledT) -> ScheduledT:
            self.scheduled_triggers.append(
                ScheduledCapability(
                    key=key,
                    display_name=display_name,
                    config_schema=config_schema,
                    migrate_config=migrate_config,
                    function=function,
                )
            )
            return function

        return register

    def resident_trigger(
        self,
        key: str,
        *,
        display_name: str,
        config_schema: ConfigSchema,
        migrate_config: MigrateConfig | None = None,
    ) -> Callable[[ResidentT], ResidentT]:
        """Register a trigger that listens by itself: a subclass of `ResidentTrigger`."""

        def register(trigger: ResidentT) -> ResidentT:
            self.resident_triggers.append(
                ResidentCapability(
                    key=key,
                    display_name=display_name,
                    config_schema=config_schema,
                    migrate_config=migrate_config,
                    trigger=trigger,
                )
            )
            return trigger

        return register

    @overload
    def provider(
        self,
        *,
        kind: Literal["email"],
        id: str,
        display_name: str,
        config_schema: ConfigSchema,
        defaults: Mapping[str, str] | None = None,
    ) -> Callable[[EmailProviderT], EmailProviderT]: ...

    @overload
    def provider(
        self,
        *,
        kind: Literal["storage"],
        id: str,
        display_name: str,
        config_schema: ConfigSchema,
        defaults: Mapping[str, str] | None = None,
    ) -> Callable[[StorageProviderT], StorageProviderT]: ...

    def provider(
        self,
        *,
        kind: Literal["email", "storage"],
        id: str,  # noqa: A002 - the field's name in plugins and in the API
        display_name: str,
        config_schema: ConfigSchema,
        defaults: Mapping[str, str] | None = None,
    ) -> Callable[[Any], Any]:
        """Register a provider: a class with the protocol of its kind, made with a `ProviderSetup`.

        Args:
            kind: ``email`` (`EmailProvider`) or ``storage`` (`StorageProvider`).
            id: Unique among the plugin's providers; letters, digits, ``_`` and ``-``.
            display_name: Shown to admins.
            config_schema: What its config must satisfy. It lives in the system config under
                ``PLUGIN_{NAME}_PROVIDER_{ID}``.
            defaults: For a property of the config, the environment variable that stands in while it is absent, for
                example ``{"clientId": "GMAIL_CLIENT_ID"}``.
        """

        def register(provider: ProviderT) -> ProviderT:
            self.providers.append(
                ProviderDeclaration(
                    kind=kind,
                    id=id,
                    display_name=display_name,
                    config_schema=config_schema,
                    provider=provider,
                    defaults=dict(defaults or {}),
                )
            )
            return provider

        return register

    def on_dispose(self, function: DisposeT) -> DisposeT:
        """Register a clean-up, plain or ``async``: it runs once for each loaded version, when that is put away."""
        self.disposers.append(function)
        return function
