"""``python -m api``: serve the API until a signal comes."""

import asyncio
import signal
import socket
import sys

import structlog
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.parts import check_parts
from latchflow.errors import ConfigurationError, LatchflowError
from latchflow.runtime.ending import end_process, status_of
from latchflow.runtime.isolation.watchdog import guarded
from latchflow.settings import Settings
from latchflow.telemetry import set_up_logs

_SHUTDOWN_SECONDS = 5

log = structlog.get_logger("api")


def main() -> int:
    """Serve until the process ends, with status 0 after a signal.

    Returns:
        The exit status 1, when the configuration cannot be used, said in one line.
    """
    try:
        settings = Settings.load()
        set_up_logs(settings)
        asyncio.run(check_parts(settings))
        listener = _listen(settings)
    except LatchflowError as error:
        sys.stderr.write(f"latchflow: {error.message}\n")
        return status_of(error)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
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
        server = _Server(config, app)
        # When its shutdown is complete uvicorn raises the signal again, for the handler that was there before its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listener])
    return 1


class _Server(uvicorn.Server):
    """Says where it listens, as soon as it does, and ends the process."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve to the end of the process, because what comes after this waits for every thread of the loop."""
        await super().serve(sockets)
        end_process(0 if self.started else 1)

    async def main_loop(self) -> None:
        """Serve until a signal comes; end the process when its loop is blocked."""
        async with guarded():
            await super().main_loop()
        self._app.state.context.streams.close()  # they would never end by themselves

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("api ready", url=_url(listener))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
    end_process(main())
