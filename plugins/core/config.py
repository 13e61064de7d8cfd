"""What the configs of the built-in actions have in common, and what a payload may change in them."""

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from latchflow.sdk import ActionCall, PermanentFailure

HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$")]
Headers = Annotated[dict[HeaderName, HeaderValue], Field(json_schema_extra={"additionalProperties": False})]


class ActionConfig(BaseModel):
    """A config in camelCase JSON.

    Attributes:
        FIXED: Fields that no payload replaces, neither a step's ``input``: they bound what the others may say.

    Fields that a call needs may still be absent from a definition, because the step's ``input`` may bring them: they
    default to None and are demanded with `required` at the call.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True, frozen=True)

    FIXED: ClassVar[frozenset[str]] = frozenset()


ConfigT = TypeVar("ConfigT", bound=ActionConfig)


def merged(call: ActionCall[ConfigT]) -> ConfigT:
    """The config with what the payload may change in it.

    From a step's ``input``, which an admin wrote, every field but the secret ones is taken. From the event's raw
    context only what the config's ``overridable`` names: the sender of a webhook never addresses a mail.

    Raises:
        PermanentFailure: The payload brought a value the field cannot have; the reason names the field.
    """
    model = type(call.config)
    fields = _replaceable(model)
    if not call.is_payload_from_input:
        fields &= frozenset(getattr(call.config, "overridable", None) or ())
    elif ignored := sorted(call.payload.keys() - fields):
        call.logger.warning("input names fields that this action does not take from it", fields=ignored)
    brought = {name: value for name, value in call.payload.items() if name in fields}
    if not brought:
        return call.config
    try:
        return model.model_validate(call.config.model_dump(by_alias=True, exclude_unset=True) | brought)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the fields together"
        raise PermanentFailure(
            f"The payload does not fit this action: {where}: {first['msg']}.", error_type="InvalidPayload"
        ) from None


def required(value: Any, field: str) -> Any:
    """`value`, unless it is missing.

    Raises:
        PermanentFailure: Says where the field can be set.
    """
    if value is None or value in ("", []):
        raise PermanentFailure(
            f"{field} is missing. Set it in the action's config, or bring it with the step's input.",
            error_type="MissingField",
        )
    return value


def _replaceable(model: type[ActionConfig]) -> frozenset[str]:
    return frozenset(
        field.alias
        for field in model.model_fields.values()
        if field.alias is not None
        and field.alias not in {"overridable", *model.FIXED}
        and not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("writeOnly"))
    )
