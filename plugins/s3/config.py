"""The config of the provider."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

_SECRET: JsonDict = {"writeOnly": True}


class S3Config(BaseModel):
    """One bucket, with the keys to it. Keys are never looked for elsewhere: not in files, not at a cloud's metadata."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    bucket: str = Field(min_length=3, max_length=63, pattern=r"^[a-zA-Z0-9._-]+$")
    region: str = Field("us-east-1", min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]+$")
    endpoint_url: str | None = Field(
        None,
        max_length=2048,
        pattern=r"^https?://(\[[0-9a-fA-F:.]+\]|[^/?#@:\[\]\s]+)(:[0-9]{1,5})?(/[^?#@\s]*)?$",
        description="Of a server that speaks S3. Default: that of AWS for the region.",
    )
    access_key_id: str = Field(min_length=1, max_length=256, json_schema_extra=_SECRET)
    secret_access_key: str = Field(min_length=1, max_length=1024, json_schema_extra=_SECRET)
    session_token: str | None = Field(None, max_length=8192, json_schema_extra=_SECRET)
    prefix: str | None = Field(
        None,
        max_length=512,
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_./-]*$",
        description="What every key in the bucket begins with.",
    )
    force_path_style: bool | None = Field(
        None, description="The bucket stands in the path, not in the host. Default: true with an endpointUrl."
    )

    @field_validator("endpoint_url")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        _ = urlsplit(value or "").port  # raises what the validator must raise
        return value
