"""Actions that write a line for each call, and for each clean-up, into a file outside of the product."""

import asyncio
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from latchflow.sdk import ActionCall, PermanentFailure, Plugin

plugin = Plugin()


class LedgerConfig(BaseModel):
    file: str
    mended: str = ""


def _note(call: ActionCall[LedgerConfig], what: str) -> None:
    with Path(call.config.file).open("a", encoding="utf-8") as file:
        file.write(f"{what} {call.invocation.step_name} {call.invocation.event_id}\n")
        file.flush()
        os.fsync(file.fileno())


@plugin.action("note", display_name="Note", config_schema=LedgerConfig)
async def note(call: ActionCall[LedgerConfig]) -> dict[str, Any]:
    _note(call, "called")
    return {"payload": dict(call.payload)}


@plugin.action("broken", display_name="Fail until it is mended", config_schema=LedgerConfig)
async def broken(call: ActionCall[LedgerConfig]) -> dict[str, Any]:
    _note(call, "called")
    if not Path(call.config.mended).exists():
        raise PermanentFailure("not mended yet")
    return {"payload": dict(call.payload)}


@plugin.action("hang", display_name="Hang, and clean up", config_schema=LedgerConfig)
async def hang(call: ActionCall[LedgerConfig]) -> None:
    _note(call, "called")
    try:
        await asyncio.sleep(100)
    finally:
        _note(call, "cleaned")
