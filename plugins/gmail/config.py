"""How the provider is configured."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DEFAULTS = {
    "clientId": "GMAIL_CLIENT_ID",
    "clientSecret": "GMAIL_CLIENT_SECRET",
    "refreshToken": "GMAIL_REFRESH_TOKEN",
    "sender": "GMAIL_SENDER",
}

Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+[^\s]*$", max_length=2000)]
Secret = Annotated[str, Field(min_length=4, max_length=4000, json_schema_extra={"writeOnly": True})]


class GmailConfig(BaseModel):
    """An OAuth client, and what a mailbox's owner allowed it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True, frozen=True)

    client_id: str = Field(min_length=1, max_length=400, description="Of an OAuth client of the type desktop app.")
    client_secret: Secret
    refresh_token: Secret = Field(description="As `latchflow providers authorize gmail` gets it.")
    sender: str = Field(
        pattern=r"^[^@\s<>,;]+@[^@\s<>,;]+$",
        max_length=254,
        description="The mailbox's address; the sender of mails that name none.",
    )
    api_url: Url = Field("https://gmail.googleapis.com", description="For a proxy.")
    token_url: Url = Field("https://oauth2.googleapis.com/token", description="For a proxy.")
