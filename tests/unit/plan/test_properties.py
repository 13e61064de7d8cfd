"""The decisions over random pipelines and outcomes, and proof that a wrong decision would be noticed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from latchflow import plan
from latchflow.model import InvocationStatus
from tests.unit.plan.cases import Case, Driven, cases, drive
from tests.unit.plan.properties import PROPERTIES

_SOURCE = Path(plan.__file__).read_text(encoding="utf-8")

_MUTATIONS = {
    "steps after a failed stop step run": ("step.sort_order > broken_at", "step.sort_order > broken_at + 100"),
    "a continue step stops its run": (' and step.on_failure == "stop"\n', "\n"),
    "disabled steps run": ("elif step.skip_reason is not None:", "elif False:"),
    "only one of a group starts": ("            return waiting\n", "            return waiting[:1]\n"),
    "groups start in any order": ("return sorted(steps, key=lambda step: step.sort_order)", "return list(steps)"),
    "steps for a failure run after a success": (
        "if run_status(run, settled) is RunStatus.FAILED:",
        "if True:",
    ),
    "steps for a failure run beside the others": (
        "return _first_open_group(run.steps, settled) or _first_open_group(run.failure_steps, settled)",
        "return _first_open_group(run.failure_steps, settled) or _first_open_group(run.steps, settled)",
    ),
    "kept steps run again": ("        if step.is_kept\n", "        if False\n"),
    "a cancelled run has failed": ("        return RunStatus.CANCELLED", "        return RunStatus.FAILED"),
    "some failed items fail the run": ("and not _is_partial(step, outcomes)", ""),
    "failed items are forgotten between two workflow runs": ("failed=before.failed + ", "failed="),
    "what nobody knows of counts as succeeded": (
        "Outcome(invocation_id=key, status=rest.status, reason=rest.reason)",
        "Outcome(invocation_id=key, status=InvocationStatus.RUNNING)",
    ),
}


_QUICK = settings(
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],  # the first failure is enough: nobody reads a smaller one
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@given(case=cases())
def test_it_holds_for_every_run(holds: Callable[[ModuleType, Driven], None], case: Case) -> None:
    holds(plan, drive(plan, case))


def test_each_shape_is_in_a_tenth_of_the_cases_at_least() -> None:
    found: Counter[str] = Counter()

    @settings(_QUICK, max_examples=600)
    @given(cases())
    def note(case: Case) -> None:
        driven = drive(plan, case)
        started = driven.started
        found.update(
            {
                "all": True,
                "parallel groups": any(len(group) > 1 for group in driven.groups),
                "continue": any(
                    m.on_failure == "continue" and driven.status(m) is InvocationStatus.FAILED for m in started
                ),
                "skip": any(driven.status(m) is InvocationStatus.SKIPPED for m in driven.run.every_step),
                "forEach of none": any(m.is_for_each and not driven.case.endings[m.name] for m in started),
                "forEach of many": any(m.is_for_each and len(driven.case.endings[m.name]) > 1 for m in started),
                "cancel": driven.is_cancelled,
                "failure handlers": any(m in driven.run.failure_steps for m in started),
                "kept": bool(driven.case.kept),
            }
        )

    note()

    assert {name: round(count / found["all"], 2) for name, count in found.items() if count < found["all"] / 10} == {}


@pytest.mark.parametrize("name", _MUTATIONS)
def test_a_wrong_decision_is_noticed(name: str) -> None:
    before, after = _MUTATIONS[name]
    assert _SOURCE.count(before) == 1, f"plan.py has changed: say anew what {name!r} would be"
    mutant = ModuleType("latchflow.plan")
    exec(compile(_SOURCE.replace(before, after), plan.__file__, "exec"), mutant.__dict__)  # noqa: S102 - our own source

    @settings(_QUICK, max_examples=1000)
    @given(cases())
    def run(case: Case) -> None:
        driven = drive(mutant, case)
        for holds in PROPERTIES:
            holds(mutant, driven)

    with pytest.raises((AssertionError, KeyError, ExceptionGroup)):
        run()
