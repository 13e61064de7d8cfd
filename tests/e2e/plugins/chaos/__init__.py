"""Actions that leave a trace of each call outside of the product, when it begins and when it ends."""

import asyncio
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from latchflow.sdk import ActionCall, Pending, Plugin, Retry

plugin = Plugin()


class ChaosConfig(BaseModel):
    trace: str
    seconds: float = 1.0
    least: float = 0
    size: int = 0


@plugin.action("work", display_name="Work for a while", config_schema=ChaosConfig)
async def work(call: ActionCall[ChaosConfig]) -> dict[str, int]:
    _note("begin", call)
    await asyncio.sleep(random.uniform(call.config.least, call.config.seconds))  # noqa: S311 - no secret
    _note("end", call)
    return {"attempt": call.invocation.attempt}


@plugin.action("swell", display_name="Put out many letters", config_schema=ChaosConfig)
async def swell(call: ActionCall[ChaosConfig]) -> dict[str, str]:
    return {"text": "x" * call.config.size}


@plugin.action("stumble", display_name="Fail at first", config_schema=ChaosConfig)
async def stumble(call: ActionCall[ChaosConfig]) -> dict[str, int]:
    _note("begin", call)
    await asyncio.sleep(random.uniform(0, call.config.seconds))  # noqa: S311 - no secret
    if call.invocation.attempt == 1:
        raise Retry(after=timedelta(seconds=0.2), reason="not yet")
    _note("end", call)
    return {"attempt": call.invocation.attempt}


@plugin.action("wait", display_name="Wait for what was begun", config_schema=ChaosConfig)
class Wait:
    async def execute(self, call: ActionCall[ChaosConfig]) -> Pending:
        _note("begin", call)
        return Pending(check_after=timedelta(seconds=call.config.seconds), state=call.invocation.attempt)

    async def resume(self, call: ActionCall[ChaosConfig], state: Any) -> dict[str, Any]:
        _note("begin", call)
        _note("end", call)
        return {"began": state}


def _note(what: str, call: ActionCall[ChaosConfig]) -> None:
    with Path(call.config.trace).open("a", encoding="utf-8") as trace:
        trace.write(f"{what} {call.invocation.id} {call.invocation.attempt} {os.getpid()}\n")
        trace.flush()
        os.fsync(trace.fileno())
