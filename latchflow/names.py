"""Durable names, spelled once. They stand in Temporal's histories and in the database: never change one, add one."""

import re
from uuid import UUID, uuid5

TASK_QUEUE = "latchflow"
"""Event workflows and actions: on one queue, so that Temporal hands an activity to the worker that asked for it."""

CORE_TASK_QUEUE = "latchflow-core"
"""Work of our own that may take long: it must not wait behind events, nor they behind it."""

TRIGGER_EVENT_WORKFLOW = "TriggerEventWorkflow"
EXECUTE_ACTION = "execute_action"
CLOSE_EVENT = "close_event"
MANIFEST_QUERY = "manifest"

RUN_WORKFLOW = "RunWorkflow"
ITEMS_WORKFLOW = "ItemsWorkflow"
WAIT_WORKFLOW = "WaitWorkflow"
CLOSE_RUN = "close_run"
BEGIN_WAIT = "begin_wait"
SETTLE_WAIT = "settle_wait"
EXPAND_ITEMS = "expand_items"
FINISH_ITEMS = "finish_items"
CANCEL_RUN_SIGNAL = "cancel_run"
SEARCH_TRIGGER = "LatchflowTrigger"
SEARCH_PIPELINES = "LatchflowPipelines"
SEARCH_STATUS = "LatchflowStatus"
DEPLOYMENT = "latchflow"
"""Of Temporal's worker versioning: every worker belongs to it, under its build id."""
WAKE_SIGNAL = "wake"

BULK_WORKFLOW = "BulkWorkflow"
CONTINUE_BULK = "continue_bulk"

ATTEMPTS_USED_UP = "AttemptsUsedUp"
CLOSED = "Closed"
NOT_HERE = "NotHere"
PLUGIN_DISABLED = "PluginDisabled"
SUPERSEDED = "Superseded"

_CAPABILITY_NAMESPACE = UUID("6f1d1b62-5a1e-5f0e-9a39-0c8a4f6f3b11")

TEST_RUN_ID = UUID("00000000-0000-8000-8000-000000000000")
"""Stands for the trigger, and for the pipeline, of an event that is the test run of an action."""

TEST_RUN_NAME = "test run"


def event_workflow_id(event_id: UUID) -> str:
    """The workflow id of an event that dispatch opened."""
    return f"event:{event_id}"


def run_workflow_id(run_id: UUID) -> str:
    """The workflow id of a run that has a workflow of its own."""
    return f"run:{run_id}"


def items_workflow_id(invocation_id: UUID) -> str:
    """The workflow id of the items of a ``forEach``."""
    return f"items:{invocation_id}"


def wait_workflow_id(invocation_id: UUID) -> str:
    """The workflow id of an invocation that waits."""
    return f"wait:{invocation_id}"


def bulk_workflow_id(bulk_id: UUID) -> str:
    """The workflow id of a bulk operation."""
    return f"bulk:{bulk_id}"


def event_id_of(workflow_id: str) -> UUID | None:
    """The event a workflow id belongs to; None when it is not one of `event_workflow_id`."""
    prefix, _, rest = workflow_id.partition(":")
    try:
        return UUID(rest) if prefix == "event" else None
    except ValueError:
        return None


def event_id_of_key(trigger_id: UUID, key: str) -> UUID:
    """The id of the one event a dedupe key stands for."""
    return uuid5(trigger_id, key)


def plugin_id(name: str) -> UUID:
    """The id of a plugin: the same in every process and on every machine."""
    return uuid5(_CAPABILITY_NAMESPACE, name)


def capability_id(plugin_name: str, kind: str, key: str) -> UUID:
    """The id of a capability: the same in every process and on every machine."""
    return uuid5(_CAPABILITY_NAMESPACE, f"{plugin_name}\n{kind}\n{key}")


def normal_form(name: str) -> str:
    """A name as it stands in keys and variables: capitals, digits and ``_``, like ``LATCHFLOW_PLUGIN_GMAIL``."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def plugin_task_queue(plugin_name: str) -> str:
    """The task queue of a plugin that has workers of its own, like ``latchflow-plugin-acme-reports``."""
    return f"{TASK_QUEUE}-plugin-{normal_form(plugin_name).lower().replace('_', '-')}"


def provider_config_key(plugin_name: str, provider_id: str) -> str:
    """Where the system config keeps a provider's config."""
    return f"PLUGIN_{normal_form(plugin_name)}_PROVIDER_{normal_form(provider_id)}"
