"""Timeouts and retry policies of activities and workflows, spelled once."""

from datetime import timedelta

from temporalio.common import RetryPolicy as TemporalRetryPolicy

from latchflow.model import PlannedStep

HEARTBEAT_TIMEOUT = timedelta(seconds=15)
"""A killed worker is noticed within this time."""

HEARTBEAT_INTERVAL = timedelta(seconds=2)
"""How often core heartbeats for a plugin, and the longest the SDK may hold a heartbeat back: a cancellation reaches
a running action within two of them."""

STICKY_TIMEOUT = timedelta(seconds=2)
"""How long a workflow task waits for the worker that has the workflow cached, before any other may take it."""

SHUTDOWN_GRACE = timedelta(seconds=6)
"""How long attempts in progress may go on after SIGTERM. With what they get to clean up and the record of their ending
it stays below the ten seconds container engines give."""

DRAIN_GRACE = timedelta(seconds=125)
"""How long they may go on in a worker that ends because of what plugins left over: longer than any attempt lasts."""

BOOKKEEPING_RETRY = TemporalRetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=2)
)
"""Of local activities that only write to Postgres: its return is noticed soon."""

BOOKKEEPING_TIMEOUT = timedelta(seconds=15)

FAILURE_TYPES: tuple[type[BaseException], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    ExceptionGroup,
)
"""Exceptions of workflow code that fail the workflow. Not `Exception`: that would also turn the nondeterminism error
of a bad deployment into a final failure of every workflow in flight."""

START_TO_CLOSE = timedelta(seconds=120)
"""Temporal's net below the invoker, which ends the plugin itself after ``timeout_seconds`` (115 at most), and after two
seconds to clean up. For every step the same: what is left of it is the time in which an ending can be written while
Postgres comes back, and a worker that dies is noticed by its heartbeats long before."""

ELSEWHERE_DELAY = timedelta(seconds=2)
"""When a task is offered again that a worker had to turn down; without it, Temporal's back-off would grow."""

RECORDING_GRACE = timedelta(seconds=5)
"""What a stopping worker still gives to records that could not be written yet."""


def retry_policy(step: PlannedStep) -> TemporalRetryPolicy:
    """When attempts follow each other. Unlimited: core ends the series, because Temporal cannot tell a lost worker."""
    policy = step.retry_policy
    return TemporalRetryPolicy(
        initial_interval=timedelta(seconds=policy.initial_interval_seconds),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval=timedelta(seconds=max(policy.maximum_interval_seconds, policy.initial_interval_seconds)),
        maximum_attempts=0,
    )
