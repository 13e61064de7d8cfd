"""What an inbound trigger must stand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from structlog.testing import capture_logs

from latchflow.config_schemas import secret_strings
from latchflow.errors import InvalidInputError
from latchflow.masking import MASK
from latchflow.runtime.invoking.inbound import InboundError
from latchflow.runtime.lifecycle.registry import LoadedInbound
from latchflow.sdk import Reject
from latchflow.testing.conformance.cases import InboundCase
from latchflow.testing.conformance.leaks import leaks, printed
from latchflow.testing.conformance.module_state import changes, state_of
from latchflow.testing.conformance.report import Report
from latchflow.testing.conformance.watching import Watched, watched
from latchflow.testing.harness import Harness


def check_inbound(harness: Harness, case: InboundCase, report: Report) -> None:
    """Try one case, and the same request without a body."""
    trigger = harness.registry.inbound_triggers[harness.source.name, case.key]
    subject = f"trigger {case.key}"
    try:
        secrets = secret_strings(trigger.schema, harness.config(trigger, case.config))
    except InvalidInputError as error:
        faults = "; ".join(f"{fault.pointer}: {fault.message}" for fault in error.errors)
        report.add(subject, "takes the case's config", f"{error.message} {faults}")
        return
    before = state_of(harness.module_name)
    with printed() as text, capture_logs() as logs, _watched(harness, trigger) as watch:
        report.add(subject, f"ends in {case.expect}", _unexpected(harness, case, case.body, case.expect))
        report.add(subject, "stands an empty body", _unexpected(harness, case, "", None))
    where = watch.blocked_at
    report.add(subject, "keeps its loop free", f"it blocks its loop at {where}" if where else None)
    seen = leaks(secrets, result=None, logs=logs, progress=[], text=text.text)
    report.add(subject, "keeps its secrets", f"a secret stands in {' and in '.join(seen)}" if seen else None)
    changed = changes(before, state_of(harness.module_name))
    fault = f"keep nothing in modules or classes: {'; '.join(changed)}" if changed else None
    report.add(subject, "changes no module", fault)


@contextmanager
def _watched(harness: Harness, trigger: LoadedInbound) -> Iterator[Watched]:
    watching = watched(trigger.plugin.loop)
    seen = harness.host.run(watching.__aenter__())
    try:
        yield seen
    finally:
        harness.host.run(watching.__aexit__(None, None, None))


def _unexpected(harness: Harness, case: InboundCase, body: str, expected: str | None) -> str | None:
    options: dict[str, Any] = {
        "config": case.config,
        "method": case.method,
        "path": case.path,
        "query": case.query,
        "headers": case.headers,
    }
    try:
        answer = harness.deliver(case.key, body=body.encode(), **options)
    except InboundError as error:
        return f"it did not answer as it must: {error}"
    if isinstance(answer, Reject) and MASK in answer.reason:
        return "its reason for the sender holds a secret"
    found = "reject" if isinstance(answer, Reject) else "emit"
    return f"it answered {answer!r}" if expected is not None and found != expected else None
