"""What each sealed column is bound to (the associated data of its envelope), spelled once."""

from uuid import UUID


def trigger_config(trigger_id: UUID, plugin: str) -> str:
    """``trigger_definitions.config_sealed``."""
    return f"trigger_definitions/{trigger_id}/config/{plugin}"


def action_config(action_id: UUID, plugin: str) -> str:
    """``config_sealed`` of ``action_definitions`` and ``action_versions``, so that one can be copied to the other."""
    return f"action_definitions/{action_id}/config/{plugin}"


def event_context(event_id: UUID) -> str:
    """``events.context_sealed``."""
    return f"events/{event_id}/context"


def invocation_input(invocation_id: UUID) -> str:
    """``invocations.input_sealed``."""
    return f"invocations/{invocation_id}/input"


def invocation_output(invocation_id: UUID) -> str:
    """``invocations.output_sealed``."""
    return f"invocations/{invocation_id}/output"


def invocation_pending(invocation_id: UUID) -> str:
    """``invocations.pending_sealed``."""
    return f"invocations/{invocation_id}/pending"


def invocation_item(invocation_id: UUID) -> str:
    """``invocations.item_sealed``."""
    return f"invocations/{invocation_id}/item"


def callback_body(invocation_id: UUID) -> str:
    """``callbacks.body_sealed``."""
    return f"invocations/{invocation_id}/callback"


def effect_result(invocation_id: UUID, service: str, ordinal: int) -> str:
    """``effects.result_sealed``."""
    return f"effects/{invocation_id}/{service}/{ordinal}/result"


def system_config(key: str) -> str:
    """``system_config.value_sealed``."""
    return f"system_config/{key}/value"
