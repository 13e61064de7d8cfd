"""A sender who knows what an expression does with its data."""

import time

from tests.e2e.stack import Stack

_QUADRATIC = "size(event.context.body.items.filter(a, !event.context.body.items.exists(b, b == a + 1000000))) > 0"


def test_an_expression_that_would_take_hours_fails_its_own_step_and_holds_nobody_up(stack: Stack) -> None:
    hostile = stack.github_trigger("hostile")
    capability = {"plugin": "@latchflow/core", "key": "transform"}
    action = stack.create("actions", name="hostile", capability=capability, config={"values": {"a": "1"}})
    step = {"name": "count", "actionId": action["id"], "sortOrder": 1, "when": _QUADRATIC}
    stack.create("pipelines", name="hostile", triggers=[{"triggerId": hostile}], steps=[step])
    innocent = stack.sleeping_pipeline("innocent", seconds=0)
    slow = [stack.fire(hostile, {"items": list(range(25_000 + number))}) for number in range(2)]

    begun = time.monotonic()
    event = stack.until_ended(stack.fire(innocent, {"note": "innocent"}), 10)

    assert event["status"] == "SUCCEEDED"
    assert time.monotonic() - begun < 4
    for event_id in slow:
        ended = stack.until_ended(event_id, 40)
        invocation = ended["runs"][0]["invocations"][0]
        assert (ended["status"], invocation["status"]) == ("FAILED", "FAILED_PERMANENT")
        assert "took longer than" in invocation["attempts"][0]["error"]["message"]
