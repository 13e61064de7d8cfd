"""``python -m api``: serve the API until a signal comes."""

import asyncio
import socket
import sys
from contextlib import AsyncExitStack

import uvicorn

from api.app import create_app, open_context
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

_SHUTDOWN_SECONDS = 5


def main() -> int:
    """Serve; the exit status is 1 when the configuration cannot be used, said in one line."""
    try:
        settings = Settings.load()
        asyncio.run(_check(settings))
        listener = _listen(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"latchflow: {error.message}\n")
        return 1
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    with listener:
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
    return 0 if server.started else 1


async def _check(settings: Settings) -> None:
    """Open the parts once before the server does, which would answer a fault with a traceback."""
    async with AsyncExitStack() as stack:
        await open_context(settings, stack)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    try:
        return socket.create_server((settings.api_host, settings.api_port), family=family, backlog=2048)
    except OSError as error:
        address = f"{settings.api_host}:{settings.api_port}"
        raise ConfigurationError(
            f"The API cannot listen on {address} ({error.strerror or error}). Set LATCHFLOW_API_PORT to a free "
            "port, or LATCHFLOW_API_HOST to an address of this machine."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
