"""Histories of events as earlier versions ran them: today's workflow must take each of them the same way."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from latchflow.crypto import Keyring
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


@pytest.mark.parametrize("file", sorted(HISTORIES.glob("*.json")), ids=lambda file: file.stem)
async def test_an_event_that_began_before_this_change_goes_on_after_it(file: Path) -> None:
    history = WorkflowHistory.from_json(f"event:{file.stem}", file.read_text(encoding="utf-8"))
    converter = data_converter(Keyring.from_setting(FAKE_KEY))
    replayer = Replayer(workflows=(*WORKFLOWS, *CORE_WORKFLOWS), data_converter=converter)
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    if result.replay_failure is not None:
        pytest.fail(_WHAT_TO_DO.format(name=file.name, failure=result.replay_failure), pytrace=False)


def test_there_are_histories_to_replay() -> None:
    assert len(list(HISTORIES.glob("*.json"))) >= 9
