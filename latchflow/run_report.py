"""What the Temporal Web UI shows of runs while they go on: a table in Markdown. Pure, as `latchflow.plan`."""

import re
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from latchflow.masking import printable
from latchflow.model import InvocationStatus, Outcome, PlannedRun, PlannedStep

MOST_ROWS = 100
"""Steps that are shown; of the others it says how many there are."""

LONGEST_TEXT = 120
"""Characters of a name or a reason."""

# Entities would not do: the Web UI shows them as they are written.
_MARKUP = re.compile(r"[&<>\\`*_{}\[\]()#+!|~:@$.^]")
_BAR = "│"
"""Between the columns: the Web UI renders tables without any padding."""


def report(
    runs: Sequence[PlannedRun],
    outcomes: Mapping[UUID, Outcome],
    begun: Collection[UUID] = (),
    elsewhere: Mapping[UUID, str] | None = None,
) -> str:
    """A table of runs and their steps.

    Args:
        runs: In their order.
        outcomes: What has ended, by invocation id.
        begun: Invocations that have begun.
        elsewhere: Runs that have a workflow of their own, each with how it stands, instead of its steps.
    """
    rows, left_out = [], 0
    for run in runs:
        if elsewhere is not None:
            rows.append(_row(run.pipeline_name, f"workflow run:{run.run_id}", elsewhere.get(run.run_id, "PENDING"), ""))
            continue
        for step in run.every_step:
            if len(rows) < MOST_ROWS:
                status, reason = _standing(step, outcomes, begun)
                rows.append(_row(run.pipeline_name, step.name, status, reason))
            else:
                left_out += 1
    if elsewhere is not None:
        left_out, rows = max(0, len(rows) - MOST_ROWS), rows[:MOST_ROWS]
    head = ["| pipeline | | step | | status | | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    tail = [f"\n…and {left_out} more."] if left_out else []
    return "\n".join([*head, *rows, *tail])


def escaped(text: str) -> str:
    """A text of a plugin, an admin or a sender as it may stand in a cell: one short line without any markup."""
    line = " ".join(printable(text[: 4 * LONGEST_TEXT]).split())
    if len(line) > LONGEST_TEXT:
        line = line[: LONGEST_TEXT - 1] + "…"
    return _MARKUP.sub(r"\\\g<0>", line)


def _standing(step: PlannedStep, outcomes: Mapping[UUID, Outcome], begun: Collection[UUID]) -> tuple[str, str]:
    outcome = outcomes.get(step.invocation_id)
    if outcome is not None:
        return outcome.status.value, outcome.reason or ""
    is_begun = step.invocation_id in begun
    return (InvocationStatus.RUNNING if is_begun else InvocationStatus.PENDING).value, ""


def _row(pipeline: str, step: str, status: str, reason: str) -> str:
    cells = (escaped(pipeline), escaped(step), f"**{escaped(status)}**", escaped(reason))
    return f"| {f' | {_BAR} | '.join(cells)} |"
