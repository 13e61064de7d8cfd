"""The table that the Temporal Web UI shows of an event."""

import re
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from latchflow.model import InvocationStatus, Outcome, PlannedRun, PlannedStep
from latchflow.run_report import LONGEST_TEXT, MOST_ROWS, escaped, report


def _run(*names: str, pipeline: str = "main") -> PlannedRun:
    steps = tuple(
        PlannedStep(invocation_id=uuid4(), step_id=uuid4(), name=name, sort_order=position)
        for position, name in enumerate(names)
    )
    return PlannedRun(run_id=uuid4(), pipeline_id=uuid4(), pipeline_name=pipeline, pipeline_version=1, steps=steps)


def test_each_step_is_a_row_with_its_status_and_reason() -> None:
    run = _run("a", "b", "c")
    first, second, _ = run.steps
    failed = Outcome(invocation_id=first.invocation_id, status=InvocationStatus.FAILED, reason="no such recipient")

    table = report([run], {first.invocation_id: failed}, {first.invocation_id, second.invocation_id})

    rows = [re.sub(r"[|│* ]+", " ", line).strip() for line in table.splitlines()[2:]]
    assert rows == ["main a FAILED no such recipient", "main b RUNNING", "main c PENDING"]


def test_text_of_others_forms_no_markup() -> None:
    text = "a|b\n<img src=x onerror=alert(1)> `x` [l](http://e.vil) **b** ![](u) &amp; www.evil.example \x1b[31m"

    cell = escaped(text)

    assert cell == (
        r"a\|b \<img src=x onerror=alert\(1\)\> \`x\` \[l\]\(http\://e\.vil\) \*\*b\*\* \!\[\]\(u\) "
        "\\&amp; www\\.evil\\.example \ufffd\\[31m"
    )


@given(st.text())
def test_a_cell_is_one_short_line_without_live_markup(text: str) -> None:
    cell = escaped(text)

    assert "\n" not in cell
    assert "\r" not in cell
    assert len(re.sub(r"\\(.)", "x", cell)) <= LONGEST_TEXT
    bare = re.sub(r"\\.", "", cell)
    assert not set("<>&|`*_[]()\\") & set(bare)


def test_the_table_is_bounded_and_says_what_it_leaves_out() -> None:
    table = report([_run(*(f"step{n}" for n in range(MOST_ROWS + 20)))], {})

    assert len(table.splitlines()) <= MOST_ROWS + 4
    assert table.endswith("…and 20 more.")


def test_many_runs_with_workflows_of_their_own_are_bounded_too() -> None:
    runs = [_run("one") for _ in range(MOST_ROWS + 3)]

    table = report(runs, {}, elsewhere={runs[0].run_id: "SUCCEEDED"})

    assert "**SUCCEEDED**" in table
    assert table.endswith("…and 3 more.")
