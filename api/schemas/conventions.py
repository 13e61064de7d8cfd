"""What all shapes share: camelCase, strictness, times, names."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

_RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")

T = TypeVar("T")


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read_time(value: Any) -> Any:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("Write the time as RFC 3339 says, for example 2030-01-31T08:00:00Z.")
    if isinstance(value, int | float):
        raise ValueError("Write the time as text, for example 2030-01-31T08:00:00Z.")
    return value


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("This time lies outside the years 1 to 9999.") from None


Time = Annotated[
    AwareDatetime, BeforeValidator(_read_time), AfterValidator(_to_utc), PlainSerializer(format_time, when_used="json")
]
"""A point in time: read with any offset, written in UTC with microseconds."""

Name = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$")
]
"""A name without control characters, neither beginning nor ending with white space."""


class Answer(BaseModel):
    """What the API sends."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, from_attributes=True)


class Body(BaseModel):
    """What the API reads: a property it does not know is an error."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    def given(self) -> dict[str, Any]:
        """The fields that were sent, by their Python names, nested ones complete."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class Listing(Answer, Generic[T]):
    """A page of a list."""

    items: list[T]
    next_cursor: str | None
