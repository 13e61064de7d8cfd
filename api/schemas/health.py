"""How the deployment is."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Body, Time
from api.schemas.plugins import PluginProcess

State = Literal["ok", "away"]


class LeftoverThread(Answer):
    """A thread that outlived its attempt; without a capability, one whose loop was replaced."""

    plugin: str
    capability: str | None
    since: Time


class ReplacedLoop(Answer):
    """How often a plugin's loop was replaced, and where the plugin blocked it last."""

    plugin: str
    times: int
    last_place: str
    last_at: Time


class ProcessHealth(Answer):
    """A process that reported within the last seconds.

    Attributes:
        dedicated_plugin: The one plugin that a dedicated worker is for.
        draining: Plugins left too much over in this worker: it takes no new work, and ends with what it has.
        leftover_threads: Threads of plugins that live on though nobody waits for them; `leftover` lists 20 at most of
            threads and tasks.
        leftover_tasks: Coroutines of plugins that go on although they were cancelled.
        replaced_loops: How often a plugin blocked its loop so long that it was replaced, since the process started.
    """

    role: str
    identity: str
    host: str
    pid: int
    version: str
    started_at: Time
    seen_at: Time
    dedicated_plugin: str | None = None
    draining: bool = False
    leftover_threads: int = 0
    leftover_tasks: int = 0
    leftover: tuple[LeftoverThread, ...] = ()
    replaced_loops: int = 0
    replaced: tuple[ReplacedLoop, ...] = ()


class PluginHealth(Answer):
    """A plugin's verdict, and how it is in each process."""

    id: UUID
    name: str
    version: str
    status: str
    error: str | None
    mixed: bool
    processes: list[PluginProcess]


class PauseState(Answer):
    """Whether accepted events wait, and who changed that last, when and why."""

    is_paused: bool
    reason: str | None
    by: str | None
    at: Time | None


class PauseChange(Body):
    """Why everything is paused, or goes on."""

    reason: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class Readiness(Answer):
    """Whether the API can take requests, and how what it needs is."""

    status: Literal["ready", "unready"]
    database: State
    temporal: State


class RuntimeHealth(Answer):
    """What runs, what it has loaded, and what is amiss.

    Attributes:
        status: ``degraded`` names its reasons in `problems`.
        unstarted_events: Accepted events that Temporal does not have yet, though nothing keeps them from starting.
        waiting_events: Accepted events that wait for their turn; counted up to ten thousand.
    """

    status: Literal["ok", "degraded"]
    problems: list[str]
    temporal: State
    unstarted_events: int
    waiting_events: int
    pause: PauseState
    processes: list[ProcessHealth]
    plugins: list[PluginHealth]
