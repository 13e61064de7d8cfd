from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from api.strain import queue_problems, strain_problems
from latchflow.store.processes import Process


def process(role: str = "worker", **stats: Any) -> Process:
    now = datetime.now(UTC)
    return Process(
        id=uuid4(),
        role=role,
        identity="1@here",
        host="here",
        pid=1,
        version="1",
        started_at=now,
        seen_at=now,
        stats=stats,
    )


def test_a_dedicated_plugin_without_its_worker_is_a_problem_that_says_how_to_start_one() -> None:
    alive = [process(), process(dedicatedPlugin="acme-two")]

    (problem,) = queue_problems(alive, {"acme-one", "acme-two"}, {"acme-one": 7})

    assert "acme-one" in problem
    assert "`latchflow worker --plugin acme-one`" in problem


def test_a_plugin_whose_api_process_reports_has_no_worker_by_that() -> None:
    problems = list(queue_problems([process("api", dedicatedPlugin="acme-one")], {"acme-one"}, {}))

    assert len(problems) == 2


def test_processes_of_an_earlier_version_report_nothing_and_are_no_problem() -> None:
    assert list(queue_problems([process()], (), {})) == []
    assert list(strain_problems([process()])) == []


def test_steps_on_a_queue_that_is_named_no_more_are_a_problem_while_nobody_serves_it() -> None:
    awaited = {"acme-one": 1, "acme-two": 3}

    one, two = queue_problems([process()], (), awaited)

    assert one.startswith(
        "1 step waits on the queue of acme-one, which LATCHFLOW_DEDICATED_PLUGINS does not name any more"
    )
    assert two.startswith("3 steps wait on the queue of acme-two")
    assert "`latchflow worker --plugin acme-two`" in two
    served = [process(), *(process(dedicatedPlugin=plugin) for plugin in awaited)]
    assert list(queue_problems(served, (), awaited)) == []


def test_a_worker_that_drains_serves_no_queue() -> None:
    alive = [process(draining=True), process(dedicatedPlugin="acme-one", draining=True)]

    common, dedicated = queue_problems(alive, {"acme-one"}, {"acme-one": 1})
    (stranded,) = queue_problems([process(), alive[1]], (), {"acme-one": 1})

    assert common.startswith("Every worker drains: events wait until one is there again.")
    assert dedicated.startswith("Every worker of the dedicated plugin acme-one drains: its steps wait")
    assert "no worker serves it" in stranded
    others = [process(draining=False), process(dedicatedPlugin="acme-one")]
    assert list(queue_problems([*alive, *others], {"acme-one"}, {"acme-one": 1})) == []


def test_a_worker_that_drains_is_named() -> None:
    (problem,) = strain_problems([process(draining=True), process(draining=False)])

    assert problem.startswith("Worker 1@here drains: plugins left too much over in it.")


def test_tasks_left_over_are_named_beside_threads() -> None:
    left = [{"plugin": "acme-one", "capability": "act"}]

    (problem,) = strain_problems([process(leftoverThreads=2, leftoverTasks=1, leftover=left)])
    (other,) = strain_problems([process(leftoverTasks=1, leftover=left)])

    assert problem.endswith("2 threads and 1 task live on though nobody waits for them: acme-one (act).")
    assert "1 task lives on" in other
