"""Histories of events as earlier versions ran them: today's workflow must take each of them the same way."""

import asyncio
import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from latchflow.crypto import Keyring
from latchflow.model import Manifest
from latchflow.names import TRIGGER_EVENT_WORKFLOW
from latchflow.temporal.codec import data_converter
from tests.support.execution import FAKE_KEY
from tests.workflow.engine import HISTORIES
from workflows import CORE_WORKFLOWS, WORKFLOWS

_WHAT_TO_DO = """
{name} cannot be replayed: this change would break every event in flight that took this way.
- Not meant to change what a workflow does? Take the change back.
- Meant to? Keep the old way for old events: `if workflow.patched("what-changed"): new way, else: old way`, and add a
  history of the new way. Never record this one anew: it stands for events that run now.
- Recording (for a new way, under a new name): pytest tests/workflow --record-histories

Temporal says: {failure}"""


# A shape is a way through a workflow that gives other commands than the others. Those of the first nine are older than
# waits, items and runs of their own.
SHAPES = {
    "two_steps": "steps one after the other",
    "parallel_cancelled": "steps side by side, and an event that is cancelled",
    "stopped": "a step that failed, and what follows skipped",
    "when_is_false": "a step that was skipped",
    "retried": "an action that asked for a retry",
    "used_up": "attempts used up",
    "waited": "a wait, while attempts waited as retries",
    "dedicated": "a task queue of a plugin's own",
    "big_output": "an output that is only referred to",
    "pending": "an action that waits",
    "pending.wait": "the workflow that waits for it",
    "delay": "a delay",
    "delay.wait": "the workflow that waits for it",
    "approval": "an approval",
    "approval.wait": "the workflow that waits for it",
    "items_3": "items beside the other steps",
    "items_25": "items in a workflow of their own",
    "items_25.items": "that workflow",
    "items_120.items": "the last run of one that went on as new",
    "failure_steps": "steps for a failure",
    "run_cancelled_of_2": "one run cancelled, the other not",
    "run_cancelled_of_5": "the same, with runs in workflows of their own",
    "run_cancelled_of_5.run": "such a run",
    "divided": "runs in workflows of their own",
    "divided.run": "such a run",
    "searched": "an event with search attributes",
}


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
async def test_an_event_that_began_before_this_change_goes_on_after_it(file: Path) -> None:
    history = WorkflowHistory.from_json(f"event:{file.stem}", file.read_text(encoding="utf-8"))
    converter = data_converter(Keyring.from_setting(FAKE_KEY))
    replayer = Replayer(workflows=(*WORKFLOWS, *CORE_WORKFLOWS), data_converter=converter)
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    if result.replay_failure is not None:
        pytest.fail(_WHAT_TO_DO.format(name=file.name, failure=result.replay_failure), pytrace=False)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_has_a_history(shape: str) -> None:
    path = HISTORIES / f"{shape}.json"

    assert path.is_file(), f"{SHAPES[shape]}: record it with `pytest tests/workflow --record-histories`"
    assert json.loads(path.read_text(encoding="utf-8"))["events"]


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW, sandboxed=False)
class _Changed:
    """A workflow that waits first, without asking `workflow.patched`."""

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        await asyncio.sleep(1)
        return "SUCCEEDED"


async def test_a_change_that_breaks_events_in_flight_is_noticed() -> None:
    history = WorkflowHistory.from_json("event:x", (HISTORIES / "two_steps.json").read_text(encoding="utf-8"))
    replayer = Replayer(workflows=[_Changed], data_converter=data_converter(Keyring.from_setting(FAKE_KEY)))

    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    assert "Nondeterminism" in str(result.replay_failure)
