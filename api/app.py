"""The wiring of the API: parts, middleware, routes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api.errors import add_error_handlers
from api.middleware import Authentication, BodyLimit, LastNet
from api.parts import chores, open_context
from api.routers import (
    actions,
    approvals,
    audit,
    bulk,
    bundle_links,
    bundle_objects,
    bundles,
    callbacks,
    codec,
    config,
    event_operations,
    event_stream,
    events,
    health,
    history,
    hooks,
    invitations,
    pause,
    pipeline_steps,
    pipeline_triggers,
    pipelines,
    plugins,
    release,
    tokens,
    triggers,
    users,
)
from latchflow.settings import Settings

ROUTERS = (
    plugins.router,
    triggers.router,
    actions.router,
    pipelines.router,
    pipeline_triggers.router,
    pipeline_steps.router,
    events.router,
    event_operations.router,
    bulk.router,
    approvals.router,
    event_stream.router,
    history.router,
    audit.router,
    bundles.router,
    bundle_objects.router,
    bundle_links.router,
    users.router,
    tokens.router,
    invitations.router,
    config.router,
    pause.router,
    release.router,
    hooks.router,
    callbacks.router,
    codec.router,
    health.router,
    health.runtime_router,
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its parts are made when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.context = await open_context(settings, stack)
            await stack.enter_async_context(chores(app.state.context))
            yield

    app = FastAPI(
        title="Latchflow",
        version=version("latchflow"),
        summary="Triggers, actions, pipelines, events and the record of what happened.",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(
                CORSMiddleware,  # outermost, so that a refusal too can be read by the Web UI that asks
                allow_origins=ui_origins(settings.temporal_ui_url),
                allow_methods=["POST"],
                allow_headers=["content-type", "x-namespace", "authorization", "authorization-extras"],
            ),
            Middleware(LastNet),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_object_bytes=settings.max_object_bytes),
            Middleware(Authentication),
        ],
    )
    add_error_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


def ui_origins(temporal_ui_url: str) -> list[str]:
    """The origins the Temporal Web UI may call the codec from: on loopback, under both names people open it by."""
    parts = urlsplit(temporal_ui_url)
    if not parts.netloc:
        return []
    origins = {f"{parts.scheme}://{parts.netloc}"}
    if parts.hostname in ("127.0.0.1", "localhost"):
        port = f":{parts.port}" if parts.port else ""
        origins |= {f"{parts.scheme}://{host}{port}" for host in ("127.0.0.1", "localhost")}
    return sorted(origins)
