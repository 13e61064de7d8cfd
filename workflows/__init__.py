"""Replayed code. With the same history it must give the same commands: no I/O, no clock, no randomness, no secrets."""

from workflows.bulk import BulkWorkflow
from workflows.invocations import WaitWorkflow
from workflows.items import ItemsWorkflow
from workflows.runs import RunWorkflow
from workflows.trigger_event import TriggerEventWorkflow

WORKFLOWS = (TriggerEventWorkflow, RunWorkflow, ItemsWorkflow, WaitWorkflow)
"""The workflows of events, for workers and replays."""

CORE_WORKFLOWS = (BulkWorkflow,)
"""Those on the queue of core's own work."""

__all__ = [
    "CORE_WORKFLOWS",
    "WORKFLOWS",
    "BulkWorkflow",
    "ItemsWorkflow",
    "RunWorkflow",
    "TriggerEventWorkflow",
    "WaitWorkflow",
]
