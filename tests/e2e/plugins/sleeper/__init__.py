"""An action that takes its time, and leaves a trace of each call outside of the product."""

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


class SleepConfig(BaseModel):
    seconds: float
    trace: str


@plugin.action("sleep", display_name="Sleep", config_schema=SleepConfig)
async def sleep(call: ActionCall[SleepConfig]) -> dict[str, int]:
    with Path(call.config.trace).open("a", encoding="utf-8") as trace:
        trace.write(f"{call.invocation.id} {call.invocation.attempt} {os.getpid()}\n")
        trace.flush()
        os.fsync(trace.fileno())
    await asyncio.sleep(call.config.seconds)
    return {"attempt": call.invocation.attempt}
