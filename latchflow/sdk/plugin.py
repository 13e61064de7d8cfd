"""`Plugin`: where an author registers capabilities. Name, version and scopes stand in ``plugin.toml``, only there."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from latchflow.sdk.actions import ActionCall
from latchflow.sdk.triggers import Emit, InboundRequest, Reject

ConfigSchema = Mapping[str, Any] | type[BaseModel]
"""A JSON Schema (2020-12) or a Pydantic model.

``writeOnly: true`` marks a secret property. ``x-latchflow-template: true`` marks a property whose strings, at any
depth, are CEL expressions: core checks them when the definition is saved, and hands the property over evaluated.
"""

InboundAnswer = Emit | Reject | list[Emit]

ActionT = TypeVar("ActionT", bound=Callable[[ActionCall[Any]], Any])
InboundT = TypeVar("InboundT", bound=Callable[[InboundRequest, Any], InboundAnswer | Awaitable[InboundAnswer]])


@dataclass(frozen=True, kw_only=True)
class ActionCapability:
    """An action type as registered."""

    key: str
    display_name: str
    config_schema: ConfigSchema
    function: Callable[[ActionCall[Any]], Any]
    scopes: Sequence[str] = ()
    is_inline: bool = False


@dataclass(frozen=True, kw_only=True)
class InboundCapability:
    """An inbound trigger type as registered."""

    key: str
    display_name: str
    config_schema: ConfigSchema
    function: Callable[[InboundRequest, Any], InboundAnswer | Awaitable[InboundAnswer]]


class Plugin:
    """The capabilities of one plugin; the package binds it as ``plugin``."""

    def __init__(self) -> None:
        self.actions: list[ActionCapability] = []
        self.inbound_triggers: list[InboundCapability] = []

    def action(
        self,
        key: str,
        *,
        display_name: str,
        config_schema: ConfigSchema,
        scopes: Sequence[str] = (),
        inline: bool = False,
    ) -> Callable[[ActionT], ActionT]:
        """Register an action: ``async def`` or plain ``def`` (run in a thread), taking one `ActionCall`.

        Args:
            key: Unique among the plugin's actions; letters, digits, ``.``, ``_`` and ``-``.
            display_name: Shown to admins.
            config_schema: What a definition's config must satisfy.
            scopes: Scopes the action uses; each must stand in ``plugin.toml`` too.
            inline: The action is pure, quick and idempotent, so that core may run it with less ceremony. Kept with
                the capability; this version carries it out like any other.
        """

        def register(function: ActionT) -> ActionT:
            self.actions.append(
                ActionCapability(
                    key=key,
                    display_name=display_name,
                    config_schema=config_schema,
                    function=function,
                    scopes=tuple(scopes),
                    is_inline=inline,
                )
            )
            return function

        return register

    def inbound_trigger(
        self, key: str, *, display_name: str, config_schema: ConfigSchema
    ) -> Callable[[InboundT], InboundT]:
        """Register a trigger behind ``/hooks/{triggerId}``: ``(request, config) -> Emit | Reject | list[Emit]``."""

        def register(function: InboundT) -> InboundT:
            self.inbound_triggers.append(
                InboundCapability(key=key, display_name=display_name, config_schema=config_schema, function=function)
            )
            return function

        return register
