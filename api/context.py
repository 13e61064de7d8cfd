"""What every request may use, made once when the API starts."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.denials import Denials
from latchflow.crypto import Keyring
from latchflow.settings import Settings
from latchflow.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts of a running API.

    Attributes:
        denials: Where refused calls are recorded.
        temporal_namespace: Stands in the links to the Temporal Web UI.
    """

    settings: Settings
    database: Database
    keyring: Keyring
    denials: Denials
    temporal_namespace: str = "default"


def context_of(request: Request) -> Context:
    """The context of the application that serves this request."""
    context = request.app.state.context
    if not isinstance(context, Context):
        raise TypeError("The application has no context: its lifespan has not run.")
    return context


ContextDep = Annotated[Context, Depends(context_of)]
