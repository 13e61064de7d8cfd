"""The conformance suite: what every plugin must stand, tried on the calls that its ``tests/cases.toml`` gives."""

from latchflow.testing.conformance.cases import ActionCase, CasesError, InboundCase, read_cases
from latchflow.testing.conformance.report import Report, Verdict
from latchflow.testing.conformance.suite import check_plugin

__all__ = ["ActionCase", "CasesError", "InboundCase", "Report", "Verdict", "check_plugin", "read_cases"]
