from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from api.strain import strain_problems
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

    (problem,) = strain_problems(alive, {"acme-one", "acme-two"})

    assert "acme-one" in problem
    assert "`latchflow worker --plugin acme-one`" in problem


def test_a_plugin_whose_api_process_reports_has_no_worker_by_that() -> None:
    problems = list(strain_problems([process("api", dedicatedPlugin="acme-one")], {"acme-one"}))

    assert len(problems) == 2


def test_processes_of_an_earlier_version_report_nothing_and_are_no_problem() -> None:
    assert list(strain_problems([process()], ())) == []
