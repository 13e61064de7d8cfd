"""The wiring of the API: parts, middleware, routes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware import Middleware

from api.context import Context
from api.denials import Denials
from api.errors import add_error_handlers
from api.middleware import Authentication, BodyLimit, LastNet
from api.routers import actions, audit, events, pipeline_steps, pipeline_triggers, pipelines, plugins, tokens, triggers
from latchflow.crypto import Keyring
from latchflow.settings import Settings
from latchflow.store.database import Database
from latchflow.store.tokens import ensure_bootstrap_token

ROUTERS = (
    plugins.router,
    triggers.router,
    actions.router,
    pipelines.router,
    pipeline_triggers.router,
    pipeline_steps.router,
    events.router,
    audit.router,
    tokens.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The application; its parts are made when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.context = await open_context(settings, stack)
            # Background tasks are entered on the stack here, behind the parts they use.
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
            Middleware(LastNet),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
            Middleware(Authentication),
        ],
    )
    add_error_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


async def open_context(settings: Settings, stack: AsyncExitStack) -> Context:
    """Make the parts; the stack closes them.

    Raises:
        ConfigurationError: The keyring, the database or the bootstrap token cannot be used.
    """
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    database = await stack.enter_async_context(Database.open(settings))
    bootstrap_token = settings.bootstrap_token.get_secret_value()
    if bootstrap_token:
        async with database.transaction() as connection:
            await ensure_bootstrap_token(connection, bootstrap_token)
    return Context(settings=settings, database=database, keyring=keyring, denials=Denials(database))
