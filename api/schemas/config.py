"""The system config."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from api.schemas.conventions import Answer, Body, Time
from latchflow.sdk import EmailAddress, ServiceError
from latchflow.services.email_message import check_address


def _address(text: str) -> str:
    try:
        check_address(EmailAddress(address=text))
    except ServiceError as error:
        raise ValueError(str(error)) from None
    return text


class ConfigPut(Body):
    """A value to store. A secret in it that is sent as ``********`` is kept."""

    value: Any
    is_secret: Annotated[
        bool | None, Field(strict=True, description="Never show the value, not even in parts. Default: as it is.")
    ] = None


class ConfigTest(Body):
    """A value to try out; without one, what is configured."""

    key: Annotated[str, Field(min_length=1, max_length=300)]
    value: Any = None
    to: Annotated[str, AfterValidator(_address), Field(description="Where to send a mail to.")] | None = None


class ConfigEntry(Answer):
    """A key of the system config; secrets show as ``********``."""

    key: str
    value: Any
    is_secret: bool
    source: Annotated[str | None, Field(description="database, env, or null when nothing is configured.")]
    fields: Annotated[dict[str, str] | None, Field(description="Of a provider's config: the source of each property.")]
    problem: Annotated[str | None, Field(description="Why a provider cannot use its config.")]
    effective: Annotated[
        str | None, Field(description="Of HTTP_EGRESS_ALLOW: the list that holds, with what the environment opens.")
    ]
    updated_at: Time | None
    updated_by: str | None


class ConfigTestResult(Answer):
    """What became of a trial."""

    ok: bool
    message: str
