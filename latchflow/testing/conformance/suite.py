"""Carrying the suite out."""

from pathlib import Path

from latchflow.runtime.contract import ContractError
from latchflow.runtime.loader.loading import LoadError
from latchflow.testing.conformance.cases import CasesError, read_cases
from latchflow.testing.conformance.of_actions import check_action
from latchflow.testing.conformance.of_inbound import check_inbound
from latchflow.testing.conformance.report import Report
from latchflow.testing.harness import Harness, plugin_under_test


def check_plugin(folder: Path) -> Report:
    """Check a plugin's contract, then try every case of its ``tests/cases.toml``.

    An action or inbound trigger without a case is a fault too: nobody has seen it run.
    """
    report = Report()
    try:
        with plugin_under_test(folder) as harness:
            report.add("plugin", "contract", None)
            _check_cases(harness, folder, report)
    except (ContractError, LoadError) as error:
        report.add("plugin", "contract", str(error))
    except CasesError as error:
        report.add("plugin", "cases", str(error))
    return report


def _check_cases(harness: Harness, folder: Path, report: Report) -> None:
    cases = read_cases(folder)
    name = harness.source.name
    for action_case in cases.actions:
        if (name, action_case.key) not in harness.registry.actions:
            raise CasesError(f"there is no action {action_case.key!r}")
        check_action(harness, action_case, report)
    for inbound_case in cases.inbound:
        if (name, inbound_case.key) not in harness.registry.inbound_triggers:
            raise CasesError(f"there is no inbound trigger {inbound_case.key!r}")
        check_inbound(harness, inbound_case, report)
    tried = {("action", case.key) for case in cases.actions} | {("trigger", case.key) for case in cases.inbound}
    have = {("action", key) for _, key in harness.registry.actions}
    have |= {("trigger", key) for _, key in harness.registry.inbound_triggers}
    for kind, key in sorted(have - tried):
        report.add(f"{kind} {key}", "has a case", "tests/cases.toml has no case for it: give one, so that it is tried")
