from typing import Any
from uuid import UUID, uuid4

from latchflow import plan
from latchflow.model import PlannedRun, PlannedStep, StepKind
from latchflow.store.capacity import short_of_workers


def step(
    name: str, order: int = 0, *, kind: StepKind = "action", is_inline: bool = False, items_at_once: int | None = None
) -> PlannedStep:
    return PlannedStep(
        invocation_id=uuid4(),
        step_id=uuid4(),
        name=name,
        sort_order=order,
        kind=kind,
        is_inline=is_inline,
        is_for_each=items_at_once is not None,
        max_parallel=items_at_once or 10,
    )


def run_of(*steps: PlannedStep) -> PlannedRun:
    return PlannedRun(run_id=uuid4(), pipeline_id=uuid4(), pipeline_name="p", pipeline_version=1, steps=steps)


def row(of: PlannedStep, status: str, index: int | None = None) -> dict[str, Any]:
    identifier: UUID = of.invocation_id if index is None else plan.item_of(of, index).invocation_id
    return {"id": identifier, "step_name": of.name, "index": index, "status": status, "is_partial": False}


def test_pending_actions_of_the_first_open_group_lack_a_worker() -> None:
    first, second, third = step("a"), step("b", 1), step("c", 2)
    rows = [row(first, "SUCCEEDED"), row(second, "PENDING"), row(third, "PENDING")]

    assert short_of_workers(run_of(first, second, third), rows) == {second.invocation_id}


def test_what_runs_or_takes_no_slot_lacks_none() -> None:
    steps = [step("a"), step("b", kind="delay"), step("c", is_inline=True)]
    rows = [row(steps[0], "RUNNING"), row(steps[1], "PENDING"), row(steps[2], "PENDING")]

    assert not short_of_workers(run_of(*steps), rows)


def test_nothing_of_a_run_that_failed_lacks_a_worker() -> None:
    first, second = step("a"), step("b", 1)

    assert not short_of_workers(run_of(first, second), [row(first, "FAILED"), row(second, "PENDING")])


def test_items_lack_a_worker_as_far_as_they_may_run_at_once() -> None:
    each = step("each", items_at_once=2)
    statuses = ["SUCCEEDED", "RUNNING", "PENDING", "PENDING"]
    rows = [row(each, "RUNNING"), *(row(each, status, index) for index, status in enumerate(statuses))]

    assert short_of_workers(run_of(each), rows) == {plan.item_invocation_id(each.invocation_id, 2)}
