"""Replayed code. With the same history it must give the same commands: no I/O, no clock, no randomness, no secrets."""

from workflows.invocations import WaitWorkflow
from workflows.items import ItemsWorkflow
from workflows.runs import RunWorkflow
from workflows.trigger_event import TriggerEventWorkflow

WORKFLOWS = (TriggerEventWorkflow, RunWorkflow, ItemsWorkflow, WaitWorkflow)
"""Every workflow of this room, for workers and replays."""

__all__ = ["WORKFLOWS", "ItemsWorkflow", "RunWorkflow", "TriggerEventWorkflow", "WaitWorkflow"]
