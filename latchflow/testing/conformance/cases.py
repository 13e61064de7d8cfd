"""``tests/cases.toml`` of a plugin: example calls for the suite."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE = Path("tests") / "cases.toml"


class CasesError(Exception):
    """The file cannot be used; the message names the place."""


class HttpAnswer(BaseModel):
    """What a request of the action is answered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: int = 200
    headers: dict[str, str] = {}
    body: str = ""


class StoredFile(BaseModel):
    """An object that is there before the action runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: UUID
    path: str
    content: str = ""


class ActionCase(BaseModel):
    """A call of an action.

    Attributes:
        config: As an admin would save it; give every secret, with 8 characters at least.
        payload: What the step's ``input`` evaluates to.
        http: The answers to its requests, in order.
        expect: Whether it succeeds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    config: dict[str, Any] = {}
    payload: dict[str, Any] = {}
    http: list[HttpAnswer] = []
    files: list[StoredFile] = []
    expect: Literal["success", "failure"] = "success"


class InboundCase(BaseModel):
    """A request to an inbound trigger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    config: dict[str, Any] = {}
    method: str = "POST"
    path: str = "/"
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: str = ""
    expect: Literal["emit", "reject"] = "emit"


class Cases(BaseModel):
    """All cases of a plugin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    actions: Annotated[list[ActionCase], Field(max_length=200)] = []
    inbound: Annotated[list[InboundCase], Field(max_length=200)] = []


def read_cases(folder: Path) -> Cases:
    """The cases of a plugin; none when it has no such file.

    Raises:
        CasesError: The file is no TOML, or holds what is no case.
    """
    file = folder / FILE
    if not file.is_file():
        return Cases()
    try:
        return Cases.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CasesError(f"{FILE}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CasesError(f"{FILE}: {place}: {first['msg']}") from None
