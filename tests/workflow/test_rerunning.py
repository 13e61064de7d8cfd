"""Repeating an event: what is kept is not executed again, as a file outside of the product shows."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.service import RPCError

from latchflow.errors import ConflictError, InvalidInputError, NotFoundError
from latchflow.names import TEST_RUN_ID, event_workflow_id
from latchflow.repeats import Rerun, StepPoint
from latchflow.sdk import ActionCall, PermanentFailure, Plugin
from latchflow.store import places
from tests.support.execution import Step
from tests.support.registries import registry_of
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import Engine

_FAILED = Rerun(start="failed")


class Outside:
    """Actions that leave a line in a file for each call, and one that fails until it is mended."""

    def __init__(self, folder: Path) -> None:
        self._file, self._mended = folder / "calls", folder / "mended"
        self._file.touch()
        self.registry = registry_of(self._plugin())

    def calls(self) -> Counter[str]:
        """How often each step was called."""
        return Counter(self._file.read_text(encoding="utf-8").splitlines())

    def mend(self) -> None:
        """Let the action succeed from now on."""
        self._mended.touch()

    def _note(self, call: ActionCall[Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{call.invocation.step_name}\n")
            file.flush()
            os.fsync(file.fileno())

    def _plugin(self) -> Plugin:
        plugin = Plugin()

        @plugin.action("note", display_name="Note the call", config_schema={})
        def note(call: ActionCall[Any]) -> Any:
            self._note(call)
            return {"payload": dict(call.payload), "config": dict(call.config), "call": self.calls().total()}

        @plugin.action("broken", display_name="Fail until it is mended", config_schema={})
        def broken(call: ActionCall[Any]) -> Any:
            self._note(call)
            if not self._mended.exists():
                raise PermanentFailure("not yet")
            return dict(call.payload)

        return plugin


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    outside = Outside(tmp_path)
    yield outside
    outside.registry.close()


def _three(**last: Any) -> list[Step]:
    """Two steps that succeed, and a third that reads both and fails until it is mended."""
    return [
        Step(action="note", name="first", input={"order": "event.context.order"}),
        Step(action="note", name="second", sort_order=1, config={"to": "ada"}),
        Step(
            action="broken",
            name="third",
            sort_order=2,
            input={"order": "steps.first.output.payload.order", "call": "steps.second.output.call"},
            **last,
        ),
        Step(action="note", name="fourth", sort_order=3, input={"order": "steps.third.output.order"}),
    ]


async def _failed(engine: Engine, *pipelines: Sequence[Step]) -> UUID:
    event_id = await engine.fire(*pipelines, context={"order": 7})
    assert await engine.finish(event_id) in ("FAILED", "PARTIAL_FAILURE")
    return event_id


async def _rerun(engine: Engine, event_id: UUID, rerun: Rerun = _FAILED, **options: Any) -> UUID:
    accepted = await engine.rerunner.rerun(event_id, rerun, actor="ada", **options)
    assert not accepted.is_duplicate
    await engine.dispatcher.close()
    return accepted.event_id


async def _delete_workflow(engine: Engine, event_id: UUID) -> None:
    """As Temporal does it itself when the retention of a closed workflow has passed."""
    await engine.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=engine.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=event_workflow_id(event_id)),
        )
    )
    async with asyncio.timeout(60):
        while True:
            try:
                await engine.handle(event_id).describe()
            except RPCError:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("definitions", ["now", "then"])
@pytest.mark.parametrize("is_gone", [False, True], ids=["within the retention", "after the retention"])
async def test_a_rerun_from_what_failed_calls_no_kept_step_again_and_later_steps_see_their_outputs(
    engine: Engine, outside: Outside, keep_history: KeepHistory, definitions: Any, is_gone: bool
) -> None:
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
        if is_gone:
            await _delete_workflow(engine, old)
        outside.mend()
        new = await _rerun(engine, old, Rerun(start="failed", definitions=definitions))

        assert await engine.finish(new) == "SUCCEEDED"
    await keep_history("rerun_from_failed", new)
    assert outside.calls() == {"first": 1, "second": 1, "third": 2, "fourth": 1}
    assert await engine.deployment.output(new, "third") == {"order": 7, "call": 2}
    assert (await engine.deployment.output(new, "fourth"))["payload"] == {"order": 7}
    for step in ("first", "second"):
        assert await engine.deployment.output(new, step) == await engine.deployment.output(old, step)
        assert await engine.deployment.phases(new, step) == []
    event = await engine.deployment.event(new)
    assert (event["rerun_of"], event["invoker"], event["metadata"]) == (old, "ada", {})
    kept = [step["name"] for step in event["manifest"]["runs"][0]["steps"] if step["is_kept"]]
    assert kept == ["first", "second"]
    (entry,) = await engine.deployment.rows(
        "SELECT actor, detail FROM audit_entries WHERE trigger_event_id = %s AND kind = 'trigger'", new
    )
    wanted = {"operation": "rerun", "rerunOf": str(old), "kept": 2, "from": "failed", "definitions": definitions}
    wanted["gate"] = {"verdict": "run", "reason": None}
    assert (entry["actor"], entry["detail"]) == ("ada", wanted)


async def test_a_rerun_from_the_start_keeps_nothing_and_has_the_old_context(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
        outside.mend()
        new = await _rerun(engine, old, Rerun())

        assert await engine.finish(new) == "SUCCEEDED"
    assert outside.calls() == {"first": 2, "second": 2, "third": 2, "fourth": 1}
    sealed = (await engine.deployment.event(new))["context_sealed"]
    assert engine.deployment.keyring.open_json(sealed, places.event_context(new)) == {"order": 7}


async def test_a_rerun_from_a_step_keeps_what_does_not_come_after_it_and_its_pipeline_alone(
    engine: Engine, outside: Outside
) -> None:
    steps = [*_three(), Step(action="note", name="beside", sort_order=1)]
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, steps, [Step(action="note", name="other")])
        outside.mend()
        new = await _rerun(engine, old, Rerun(start=StepPoint(step="second")))

        assert await engine.finish(new) == "SUCCEEDED"
    assert outside.calls() == {"first": 1, "beside": 1, "second": 2, "third": 2, "fourth": 1, "other": 1}
    assert set(await engine.deployment.statuses(new)) == {"first", "beside", "second", "third", "fourth"}


async def test_a_rerun_of_a_rerun_keeps_what_both_have_done(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
        again = await _rerun(engine, old)
        assert await engine.finish(again) == "FAILED"
        outside.mend()
        new = await _rerun(engine, again)

        assert await engine.finish(new) == "SUCCEEDED"
    assert outside.calls() == {"first": 1, "second": 1, "third": 3, "fourth": 1}
    assert (await engine.deployment.event(new))["rerun_of"] == again


async def test_the_items_of_a_kept_list_are_kept_with_their_outputs(engine: Engine, outside: Outside) -> None:
    each = Step(
        action="note", name="each", for_each="[10, 11, 12, 13]", input={"item": "item"}, when="event.context.order == 7"
    )
    last = Step(action="broken", name="last", sort_order=1, input={"items": "steps.each.output.map(o, o.payload.item)"})
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, [each, last])
        outside.mend()
        new = await _rerun(engine, old)

        assert await engine.finish(new) == "SUCCEEDED"
    assert outside.calls() == {"each": 4, "last": 2}
    assert await engine.deployment.output(new, "last") == {"items": [10, 11, 12, 13]}
    items = await engine.deployment.items(new, "each")
    assert [(item["item_index"], item["status"]) for item in items] == [(n, "SUCCEEDED") for n in range(4)]
    values = [
        engine.deployment.keyring.open_json(item["item_sealed"], places.invocation_item(item["id"])) for item in items
    ]
    assert values == [10, 11, 12, 13]


async def test_in_a_divided_event_kept_steps_are_not_called_again(engine: Engine, outside: Outside) -> None:
    others = [[Step(action="note", name=f"other{n}")] for n in range(5)]
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three(), *others)
        outside.mend()
        new = await _rerun(engine, old)

        assert await engine.finish(new) == "SUCCEEDED"
    assert outside.calls() == {"first": 1, "second": 1, "third": 2, "fourth": 1, **{f"other{n}": 1 for n in range(5)}}


async def test_steps_for_a_failure_are_never_kept(engine: Engine, outside: Outside) -> None:
    alarm = Step(action="note", name="alarm", is_failure_step=True)
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, [*_three(), alarm])
        new = await _rerun(engine, old)

        assert await engine.finish(new) == "FAILED"
    assert outside.calls() == {"first": 1, "second": 1, "third": 2, "alarm": 2}


async def test_with_the_definitions_of_now_a_mended_action_runs_and_with_those_of_then_the_old_one(
    engine: Engine, outside: Outside
) -> None:
    deployment = engine.deployment
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, [Step(action="broken", name="one"), Step(action="note", name="two", sort_order=1)])
        outside.mend()
        two = (await deployment.steps(old))["two"]["action_id"]
        config = deployment.keyring.seal_json({"to": "bob"}, places.action_config(two, "acme-testing"))
        await deployment.rows("INSERT INTO action_versions VALUES (%s, 2, %s)", two, config)
        await deployment.rows(
            "UPDATE action_definitions SET version = 2, config_sealed = %s WHERE id = %s", config, two
        )
        outputs = {}
        for definitions in ("now", "then"):
            new = await _rerun(engine, old, Rerun(start="failed", definitions=definitions))
            assert await engine.finish(new) == "SUCCEEDED"
            outputs[definitions] = (await deployment.output(new, "two"))["config"]

    assert outputs == {"now": {"to": "bob"}, "then": {}}


async def test_a_kept_step_that_is_no_longer_there_is_named_and_a_renamed_one_is_found(
    engine: Engine, outside: Outside
) -> None:
    deployment = engine.deployment
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
    second = (await deployment.steps(old))["second"]["step_id"]
    await deployment.rows("UPDATE pipeline_steps SET name = 'renamed' WHERE id = %s", second)
    renamed = await _rerun(engine, old)
    assert (await deployment.statuses(renamed))["renamed"] == "SUCCEEDED"

    await deployment.rows("UPDATE pipeline_steps SET name = 'second', id = gen_random_uuid() WHERE id = %s", second)
    recreated = await _rerun(engine, old)
    assert (await deployment.statuses(recreated))["second"] == "SUCCEEDED"

    await deployment.rows("DELETE FROM pipeline_steps WHERE name = 'second'")
    with pytest.raises(ConflictError, match=r"'second' of 'pipeline 0.*\"definitions\": \"then\""):
        await _rerun(engine, old)
    await _rerun(engine, old, Rerun(start="failed", definitions="then"))


async def test_after_the_trigger_was_deleted_only_the_definitions_of_then_are_left(
    engine: Engine, outside: Outside
) -> None:
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
        trigger_id = (await engine.deployment.event(old))["trigger_id"]
        await engine.deployment.rows("DELETE FROM pipeline_triggers")
        await engine.deployment.rows("DELETE FROM trigger_definitions WHERE id = %s", trigger_id)
        outside.mend()
        with pytest.raises(ConflictError, match="trigger of this event was deleted"):
            await _rerun(engine, old)
        new = await _rerun(engine, old, Rerun(start="failed", definitions="then"))

        assert await engine.finish(new) == "SUCCEEDED"


async def test_what_cannot_be_repeated_is_refused_with_the_reason(engine: Engine, outside: Outside) -> None:
    fine = [Step(action="note", name="one")]
    async with engine.worker(registry=outside.registry):
        done = await engine.fire(fine, fine)
        await engine.finish(done)
    open_event = await engine.deployment.open_event(fine)

    with pytest.raises(ConflictError, match="still open"):
        await _rerun(engine, open_event)
    with pytest.raises(ConflictError, match="Nothing of the event failed"):
        await _rerun(engine, done)
    with pytest.raises(NotFoundError):
        await _rerun(engine, uuid4())
    with pytest.raises(InvalidInputError, match="no step 'two'"):
        await _rerun(engine, done, Rerun(start=StepPoint(step="two")))
    with pytest.raises(InvalidInputError, match="Several pipelines"):
        await _rerun(engine, done, Rerun(start=StepPoint(step="one")))


async def test_the_same_key_gives_the_same_new_event_also_at_the_same_time(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        old = await _failed(engine, _three())
        calls = (engine.rerunner.rerun(old, _FAILED, actor="ada", key="key:1") for _ in range(5))
        accepted = await asyncio.gather(*calls)
        other = await engine.rerunner.rerun(old, _FAILED, actor="ada", key="key:2")
        await engine.dispatcher.close()
        await engine.finish(accepted[0].event_id)

    assert len({one.event_id for one in accepted}) == 1
    assert sorted(one.is_duplicate for one in accepted) == [False, True, True, True, True]
    assert other.event_id != accepted[0].event_id
    with pytest.raises(ConflictError, match="Idempotency-Key"):
        await engine.rerunner.rerun(old, Rerun(), actor="ada", key="key:1")


async def test_a_test_run_calls_the_action_once_with_the_payload_as_its_input(engine: Engine, outside: Outside) -> None:
    trigger_id = await engine.deployment.define([Step(action="note", name="one", config={"to": "ada"})])
    (action,) = await engine.deployment.rows("UPDATE action_definitions SET is_enabled = false RETURNING id")
    async with engine.worker(registry=outside.registry):
        tried = await engine.rerunner.try_out(action["id"], {"order": 9}, actor="ada")
        await engine.dispatcher.close()
        assert await engine.finish(tried.event_id) == "SUCCEEDED"
        outputs = [await _only_output(engine, tried.event_id)]
        again = await _rerun(engine, tried.event_id, Rerun())
        assert await engine.finish(again) == "SUCCEEDED"
        outputs.append(await _only_output(engine, again))

    assert [(output["payload"], output["config"]) for output in outputs] == [({"order": 9}, {"to": "ada"})] * 2
    assert outside.calls().total() == 2
    event = await engine.deployment.event(tried.event_id)
    assert (event["trigger_id"], event["metadata"], event["invoker"]) == (TEST_RUN_ID, {"testRun": True}, "ada")
    assert event["trigger_id"] != trigger_id
    with pytest.raises(NotFoundError):
        await engine.rerunner.try_out(uuid4(), {}, actor="ada")


async def _only_output(engine: Engine, event_id: UUID) -> Any:
    (name,) = await engine.deployment.steps(event_id)
    return await engine.deployment.output(event_id, name)
