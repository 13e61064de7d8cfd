"""The action ``command.run``."""

import os
import pwd
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from latchflow.sdk import ActionCall, PermanentFailure

from .config import ActionConfig, merged, required
from .process import Command, Finished, run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ERROR_CHARACTERS = 1000

Argument = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=65536)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
Environment = Annotated[dict[Name, Argument], Field(json_schema_extra={"additionalProperties": False})]
Overridable = Literal["argv", "cwd", "env", "stdin"]


class CommandFailed(Exception):  # noqa: N818 - the type that the admin reads
    """The program ended with an exit status other than 0; the retry policy decides about another attempt."""


class CommandTimedOut(Exception):  # noqa: N818 - the type that the admin reads
    """The program did not end in time, and was ended with all that it had started."""


class CommandRunConfig(ActionConfig):
    """The program to run. Needed at the call: ``argv``."""

    argv: list[Argument] | None = Field(
        None, min_length=1, max_length=1000, description="The program and its arguments; no shell reads them."
    )
    cwd: Argument | None = Field(None, pattern=r"^/[^\x00]*$", description="The folder it runs in. Default: /.")
    env: Environment | None = Field(
        None, description="Variables beside PATH, HOME and LANG; nothing else is inherited."
    )
    secret_env: Environment | None = Field(None, json_schema_extra={"writeOnly": True})
    stdin: str | None = Field(None, max_length=1024 * 1024)
    timeout_seconds: int | None = Field(None, ge=1, le=115)
    overridable: list[Overridable] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def command_run(call: ActionCall[CommandRunConfig]) -> dict[str, Any]:
    """Run one program to its end. Every attempt runs it anew."""
    config = merged(call)
    argv = required(config.argv, "argv")
    if not argv[0]:
        raise PermanentFailure("argv begins with an empty text. Name the program.", error_type="MissingField")
    command = Command(
        argv=argv,
        cwd=config.cwd or "/",
        env=_environment(call, config),
        stdin=None if config.stdin is None else config.stdin.encode("utf-8", "replace"),
        timeout=None if config.timeout_seconds is None else timedelta(seconds=config.timeout_seconds),
    )
    try:
        finished = await run(command)
    except TimeoutError:
        raise CommandTimedOut(f"{argv[0]!r} did not end within {config.timeout_seconds} s.") from None
    except (OSError, ValueError) as error:
        # Neither the program nor its folder grows from trying again; what was given is in the definition.
        reason = getattr(error, "strerror", None) or "the arguments cannot be handed to it"
        raise PermanentFailure(f"{argv[0]!r} cannot be run: {reason}.", error_type="CommandNotStarted") from None
    if finished.exit_code != 0:
        raise CommandFailed(_failure(argv[0], finished))
    return {"exitCode": finished.exit_code, "stdout": finished.stdout, "stderr": finished.stderr}


def _environment(call: ActionCall[CommandRunConfig], config: CommandRunConfig) -> dict[str, str]:
    return {
        "PATH": PATH,
        "HOME": _home(),
        "LANG": "C.UTF-8",
        "LATCHFLOW_IDEMPOTENCY_KEY": call.idempotency_key,
        **(config.env or {}),
        **(call.secrets.get("secretEnv") or {}),
    }


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a user whom the system does not list, as in some containers
        return "/"


def _failure(program: str, finished: Finished) -> str:
    how = f"exit status {finished.exit_code}" if finished.exit_code > 0 else f"signal {-finished.exit_code}"
    tail = finished.stderr_tail[-_ERROR_CHARACTERS:].strip()
    return f"{program!r} ended with {how}" + (f": {tail}" if tail else ".")
