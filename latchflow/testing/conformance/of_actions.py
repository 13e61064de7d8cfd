"""What an action must stand."""

from latchflow.errors import InvalidInputError
from latchflow.testing.backends import failing
from latchflow.testing.conformance.cases import ActionCase
from latchflow.testing.conformance.module_state import changes, state_of
from latchflow.testing.conformance.report import Report
from latchflow.testing.conformance.trial import Trial, services_of
from latchflow.testing.harness import Harness


def check_action(harness: Harness, case: ActionCase, report: Report) -> None:
    """Try one case in every way."""
    action = harness.registry.actions[harness.source.name, case.key]
    subject = f"action {case.key}"
    try:
        config = harness.config(action, case.config)
    except InvalidInputError as error:
        faults = "; ".join(f"{fault.pointer}: {fault.message}" for fault in error.errors)
        report.add(subject, "takes the case's config", f"{error.message} {faults}")
        return
    trial = Trial(harness, action, case, config)
    before = state_of(harness.module_name)
    trial.run(services_of(case).backends)
    report.add(subject, f"ends in {case.expect}", trial.unexpected())
    report.add(subject, "returns what can be stored", trial.unstorable())
    trial.run(failing(services_of(case)))
    report.add(subject, "stands services that fail", trial.broken())
    report.add(subject, "ends when it is cancelled", trial.cancel())
    report.add(subject, "makes the same calls in every attempt", trial.wandering())
    report.add(subject, "keeps its loop free", trial.blocking())
    report.add(subject, "keeps its secrets", trial.leaking())
    changed = changes(before, state_of(harness.module_name))
    fault = f"keep nothing in modules or classes: {'; '.join(changed)}" if changed else None
    report.add(subject, "changes no module", fault)
