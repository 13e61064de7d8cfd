"""Services for calls that use none, or that are only looked at."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from latchflow.runtime.guard import Backends, Grant, GuardedServices, Records
from latchflow.testing import MemoryRecords


class _Unused:
    """Stands where nobody looks."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody calls {name} here")


UNUSED = cast("Any", _Unused())
NO_SERVICES = Backends(email=UNUSED, http=UNUSED, storage=UNUSED, users=UNUSED, resources=UNUSED, callbacks=UNUSED)


def grant_of(
    *,
    granted: Sequence[str] = (),
    declared: Sequence[str] = (),
    records: Records | None = None,
    resends_unknown: bool = False,
    seconds: float = 30,
) -> Grant:
    """What an attempt may do; made on the loop that shall be the host's."""
    return Grant(
        granted_scopes=frozenset(granted),
        capability_scopes=frozenset(declared),
        idempotency_key="invocation",
        records=records or MemoryRecords(),
        host_loop=asyncio.get_running_loop(),
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        resends_unknown=resends_unknown,
    )


def services_of(backends: Backends = NO_SERVICES, grant: Grant | None = None) -> GuardedServices:
    """The guarded services of one attempt."""
    return GuardedServices(backends, grant or grant_of(), actor="acme-testing/act")
