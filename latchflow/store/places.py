"""The place of every sealed value: the associated data it is sealed for. Never change a formula: nothing would open."""

from uuid import UUID


def trigger_config(trigger_id: UUID, plugin: str) -> str:
    """The config of a trigger definition, in whichever version."""
    return f"trigger_definitions/{trigger_id}/config/{plugin}"


def action_config(action_id: UUID, plugin: str) -> str:
    """The config of an action definition; the same in ``action_versions``, so that a version is a copy of its bytes."""
    return f"action_definitions/{action_id}/config/{plugin}"


def event_context(event_id: UUID) -> str:
    """The context of an event."""
    return f"events/{event_id}/context"


def invocation_input(invocation_id: UUID) -> str:
    """The evaluated input of an invocation."""
    return f"invocations/{invocation_id}/input"


def invocation_output(invocation_id: UUID) -> str:
    """The output of an invocation."""
    return f"invocations/{invocation_id}/output"
