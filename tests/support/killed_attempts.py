"""Makes attempts in processes that are killed (SIGKILL) right after the receiver has answered, before any record.

Reads one JSON object a line from stdin, ``{"invocation", "url", "keyed"}``, and writes the signal that ended the
attempt's process. Each is a fork of this process, which has imported everything and started nothing.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any
from uuid import UUID

from latchflow.sdk import HttpRequest, HttpResponse
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from latchflow.store.database import Database
from tests.support.execution import Deployment, settings_of
from tests.support.invocations import Invocation
from tests.support.postgres import TestDatabase
from tests.support.services import NO_SERVICES


class _Deadly:
    """Real HTTP, and then no process any more."""

    def __init__(self) -> None:
        self._http = GuardedHttp(EgressGuard("127.0.0.1"))

    async def request(self, request: HttpRequest) -> HttpResponse:
        await self._http.request(request)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives this")


def request_of(url: str, invocation_id: UUID, *, keyed: bool) -> HttpRequest:
    """The request of an attempt: the same for all of them."""
    headers = {"Idempotency-Key": str(invocation_id)} if keyed else {}
    return HttpRequest(method="POST", url=url, headers=headers, json={"n": 1}, is_repeatable=keyed)


async def _attempt(urls: TestDatabase, task: dict[str, Any]) -> None:
    async with Database.open(settings_of(urls)) as pool:
        invocation = Invocation(Deployment(urls, pool), UUID(task["invocation"]))
        attempt = await invocation.attempt()
        services = attempt.services(replace(NO_SERVICES, http=_Deadly()))
        await services.http.request(request_of(task["url"], invocation.id, keyed=task["keyed"]))


def _main() -> None:
    urls = TestDatabase(name="", url=sys.argv[1], owner_url="")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(_attempt(urls, json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
