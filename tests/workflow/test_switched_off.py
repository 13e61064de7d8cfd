from typing import Any

from activities.actions import ActionActivities
from tests.support.execution import Step
from tests.support.registries import NAME
from tests.workflow.engine import Engine


class _Off(ActionActivities):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, switched_off={(NAME, "echo"): "echo is off here."})


async def test_an_action_that_is_off_fails_for_good_and_never_runs(engine: Engine) -> None:
    async with engine.worker(_Off):
        event_id = await engine.fire([Step(action="echo", name="one")])

        assert await engine.finish(event_id) == "FAILED"
    assert engine.actions.calls == []
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "FAILED_PERMANENT"]
    (attempt,) = await engine.deployment.rows("SELECT error FROM attempts")
    assert attempt["error"] == {"type": "SwitchedOff", "message": "echo is off here."}
