"""Whether the process lives, whether it can serve, and how the whole deployment is."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Response

from api.auth import Caller, requires
from api.context import Context, ContextDep
from api.routing import admin_router
from api.schemas.health import PluginHealth, ProcessHealth, Readiness, RuntimeHealth, State
from api.strain import queue_problems, strain_problems
from latchflow.errors import ConfigurationError, UnavailableError
from latchflow.store import events, processes, queues
from latchflow.store.plugins import list_plugins
from latchflow.temporal.client import check_namespace

router = APIRouter(tags=["health"])
runtime_router = admin_router("/system/plugin-runtime", "health")

_MOST_PLUGINS = 1000


@router.get("/healthz", summary="Does the process live", operation_id="healthz")
async def healthz() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can the process serve", operation_id="readyz", responses={503: {"model": Readiness}})
async def readyz(context: ContextDep, response: Response) -> Readiness:
    """Ready while the database answers: with Temporal away, deliveries are still accepted and start later."""
    database = await _database_state(context)
    if database == "away":
        response.status_code = 503
    status = "ready" if database == "ok" else "unready"
    return Readiness(status=status, database=database, temporal=await _temporal_state(context))


@runtime_router.get("/health", summary="How the deployment is", operation_id="getRuntimeHealth")
async def runtime_health(context: ContextDep, _: Annotated[Caller, requires("plugins:read")]) -> RuntimeHealth:
    """Processes that reported within the last 15 seconds, plugins with their verdicts, and what is amiss."""
    temporal = await _temporal_state(context)
    async with context.database.connection() as connection:
        alive = await processes.alive(connection)
        plugins = (await list_plugins(connection, limit=_MOST_PLUGINS, after=None)).items
        unstarted_events = await events.count_unstarted(connection)
        unrouted = await events.count_unrouted(connection)
        awaited = await queues.awaited(connection)
    problems = []
    if temporal == "away":
        problems.append("Temporal does not answer: accepted events wait.")
    if unstarted_events:
        events_have = "event has" if unstarted_events == 1 else "events have"
        problems.append(
            f"{unstarted_events} accepted {events_have} not been started for over 5 seconds: "
            "each start is repeated until Temporal takes it; the log of the API says why it does not."
        )
    if unrouted:
        wait = "step waits" if unrouted == 1 else "steps wait"
        problems.append(f"{unrouted} {wait} for a worker that has their plugin (status UNROUTED).")
    problems += queue_problems(alive, context.settings.dedicated, awaited)
    problems += strain_problems(alive)
    problems += [problem for plugin in plugins for problem in _plugin_problems(plugin)]
    return RuntimeHealth(
        status="degraded" if problems else "ok",
        problems=problems,
        temporal=temporal,
        unstarted_events=unstarted_events,
        processes=[ProcessHealth.model_validate({**asdict(process), **process.stats}) for process in alive],
        plugins=[PluginHealth.model_validate({**row, "processes": row["instances"]}) for row in plugins],
    )


def _plugin_problems(plugin: Mapping[str, Any]) -> Iterator[str]:
    name = plugin["name"]
    if plugin["status"] == "FAILED":
        yield f"Plugin {name} failed: {plugin['error']}"
    elif plugin["status"] == "ENABLED" and plugin["error"]:
        yield f"Plugin {name} runs in version {plugin['version']}; what is in its folder failed: {plugin['error']}"
    if plugin["mixed"]:
        versions = sorted({instance["version"] for instance in plugin["instances"]})
        yield (
            f"Plugin {name} runs in different versions ({', '.join(versions)}), or in another than the checked one "
            f"({plugin['version']}): restart the processes that lag behind."
        )
    for instance in plugin["instances"]:
        if instance["state"] == "failed":
            yield f"Plugin {name} cannot be loaded in {instance['role']} {instance['identity']}: {instance['error']}"


async def _database_state(context: Context) -> State:
    return "ok" if await context.database.answers() else "away"


async def _temporal_state(context: Context) -> State:
    try:
        await check_namespace(context.temporal)
    except (UnavailableError, ConfigurationError):
        return "away"
    return "ok"
