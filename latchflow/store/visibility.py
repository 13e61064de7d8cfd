"""Which events a caller may see: part of every query that reads events, so that a page is never filtered afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an EXECUTOR sees.

    Attributes:
        trigger_ids: The events of these triggers,
        pipeline_ids: and of those that have a run of one of these pipelines, the event itself and these runs.
    """

    trigger_ids: Sequence[UUID]
    pipeline_ids: Sequence[UUID]

    def include(self, trigger_id: UUID, pipeline_id: UUID) -> bool:
        """Whether the runs of this pipeline in events of this trigger are visible; as `visible_run`."""
        return trigger_id in self.trigger_ids or pipeline_id in self.pipeline_ids


def visible(event: str) -> str:
    """The condition that the row of `events` under this alias is visible; its parameters are `visible_to`."""
    return f"""
        (NOT %(is_limited)s::boolean
         OR {event}.trigger_id = ANY(%(visible_triggers)s::uuid[])
         OR EXISTS (SELECT FROM runs AS visible_run
                    WHERE visible_run.event_id = {event}.id
                      AND visible_run.pipeline_id = ANY(%(visible_pipelines)s::uuid[])))
    """


def visible_run(run: str, event: str) -> str:
    """The condition that a run of a visible event is visible; its parameters are `visible_to`."""
    return f"""
        (NOT %(is_limited)s::boolean
         OR {event}.trigger_id = ANY(%(visible_triggers)s::uuid[])
         OR {run}.pipeline_id = ANY(%(visible_pipelines)s::uuid[]))
    """


def wholly_visible(event: str) -> str:
    """The condition that nothing of a visible event is hidden; its parameters are `visible_to`."""
    return f"""
        NOT EXISTS (SELECT FROM runs AS any_run
                    WHERE any_run.event_id = {event}.id AND NOT {visible_run("any_run", event)})
    """


def visible_to(limits: Limits | None) -> dict[str, Any]:
    """The parameters of `visible`; without limits everything is."""
    return {
        "is_limited": limits is not None,
        "visible_triggers": list(limits.trigger_ids) if limits else [],
        "visible_pipelines": list(limits.pipeline_ids) if limits else [],
    }
