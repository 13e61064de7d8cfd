"""How the deployment is."""

from typing import Literal
from uuid import UUID

from api.schemas.conventions import Answer, Time
from api.schemas.plugins import PluginProcess

State = Literal["ok", "away"]


class ProcessHealth(Answer):
    """A process that reported within the last seconds."""

    role: str
    identity: str
    host: str
    pid: int
    version: str
    started_at: Time
    seen_at: Time


class PluginHealth(Answer):
    """A plugin's verdict, and how it is in each process."""

    id: UUID
    name: str
    version: str
    status: str
    error: str | None
    mixed: bool
    processes: list[PluginProcess]


class Readiness(Answer):
    """Whether the API can take requests, and how what it needs is."""

    status: Literal["ready", "unready"]
    database: State
    temporal: State


class RuntimeHealth(Answer):
    """What runs, what it has loaded, and what is amiss.

    Attributes:
        status: ``degraded`` names its reasons in `problems`.
        unstarted_events: Accepted events that Temporal does not have yet.
    """

    status: Literal["ok", "degraded"]
    problems: list[str]
    temporal: State
    unstarted_events: int
    processes: list[ProcessHealth]
    plugins: list[PluginHealth]
