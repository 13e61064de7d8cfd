"""Makes a build of the workers the current one, once this code has replayed the workflows that are open."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError
from temporalio.worker import Replayer

from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, LatchflowError
from latchflow.names import ITEMS_WORKFLOW, RUN_WORKFLOW, TRIGGER_EVENT_WORKFLOW, WAIT_WORKFLOW
from latchflow.settings import Settings
from latchflow.temporal.client import check_namespace, connect
from latchflow.temporal.versioning import make_current, open_histories
from workflows import WORKFLOWS

WORKFLOW_TYPES = (TRIGGER_EVENT_WORKFLOW, RUN_WORKFLOW, ITEMS_WORKFLOW, WAIT_WORKFLOW)


async def promote(build_id: str, limit: int) -> int:
    """Replay, then make the build the current one.

    Returns:
        How many workflows were replayed.

    Raises:
        ConfigurationError: A workflow cannot be replayed, or Temporal does not take the build; nothing has changed.
    """
    settings = Settings.load()
    build_id = build_id or settings.build_id
    if not build_id:
        raise ConfigurationError("Which build? Name it with --build-id, or set LATCHFLOW_BUILD_ID.")
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    # Without the SDK's own log, which would tell of a replay that fails a second time.
    runtime = Runtime(telemetry=TelemetryConfig(logging=None))
    client = await connect(keyring, identity="latchflow deploy promote", runtime=runtime)
    await check_namespace(client)
    replayer = Replayer(workflows=WORKFLOWS, data_converter=client.data_converter, runtime=runtime)
    replayed = await replay_open(client, replayer, limit)
    await make_current(client, build_id)
    sys.stdout.write(f"Replayed {replayed} open workflows. The build {build_id} is current.\n")
    return replayed


async def replay_open(client: Client, replayer: Replayer, limit: int) -> int:
    """Replay the newest open workflows of each type with this code.

    Returns:
        How many there were.

    Raises:
        ConfigurationError: One of them would not go on; the message says which, and why.
    """
    count = 0
    for workflow_type in WORKFLOW_TYPES:
        async for history in open_histories(client, workflow_type, limit=limit):
            result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
            if result.replay_failure is not None:
                raise ConfigurationError(
                    f"Nothing was changed: the open workflow {history.workflow_id} would not go on with this code. "
                    f"{' '.join(str(result.replay_failure).split())} See docs/how-to/change-a-workflow.md."
                )
            count += 1
    return count


def run(arguments: Sequence[str]) -> int:
    """Run to the end; the exit status is 1 when nothing was changed, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="promote.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--build-id", default="")
    parser.add_argument("--limit", type=int, default=200)
    given = parser.parse_args(arguments)
    try:
        asyncio.run(promote(given.build_id, given.limit))
    except LatchflowError as error:
        sys.stderr.write(f"latchflow: {error.message}\n")
        return 1
    except RPCError as error:
        sys.stderr.write(f"latchflow: Temporal refuses: {error.message}. Nothing was changed.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
