"""People, from an event to a personal token that sees just what it may."""

import re
from typing import Any

import httpx2

from tests.e2e.stack import Stack

_CORE = "@latchflow/core"


def _link(stack: Stack, address: str) -> str:
    """The link in the mail to somebody."""
    mails = httpx2.get(f"{stack.ready['smtpSinkUrl']}/messages", trust_env=False).json()["items"]
    (text,) = [mail["textBody"] for mail in mails if mail["headers"].get("To") == address]
    found = re.search(r"http\S+/invitations/\S+", text)
    assert found is not None
    return found[0]


def _accept(link: str) -> dict[str, Any]:
    answer = httpx2.post(link, headers={"Accept": "application/json"}, trust_env=False)
    assert answer.status_code == 200, answer.text
    accepted: dict[str, Any] = answer.json()
    return accepted


def test_an_event_invites_an_executor_who_sees_that_trigger_only(stack: Stack) -> None:
    trigger_id, other_id = stack.github_trigger("inviting"), stack.sleeping_pipeline("unseen", seconds=0)
    action = stack.create("actions", name="invite", capability={"plugin": _CORE, "key": "user.invite"}, config={})
    step = {"name": "invite", "actionId": action["id"], "sortOrder": 1, "input": {"email": "event.context.body.who"}}
    stack.create("pipelines", name="inviting", triggers=[{"triggerId": trigger_id}], steps=[step])
    event_id, other_event = stack.fire(trigger_id, {"who": "ada@example.org"}), stack.fire(other_id, {})
    assert stack.until_ended(event_id, 30)["status"] == "SUCCEEDED"
    link = _link(stack, "ada@example.org")
    assert link.startswith(stack.ready["apiUrl"])

    token = _accept(link)["token"]
    (user,) = [user for user in stack.get("/admin/users")["items"] if user["email"] == "ada@example.org"]
    assert (user["role"], user["status"], user["createdBy"]) == ("EXECUTOR", "ACTIVE", f"{_CORE}/user.invite")
    changed = stack.api.patch(f"/admin/users/{user['id']}", json={"triggerIds": [trigger_id]})
    assert changed.status_code == 200, changed.text

    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=stack.ready["apiUrl"], headers=headers, trust_env=False) as ada:
        assert [event["id"] for event in ada.get("/admin/events").json()["items"]] == [event_id]
        assert ada.get(f"/admin/events/{event_id}/history").status_code == 200
        assert ada.get(f"/admin/events/{other_event}").status_code == 404
        assert ada.get("/admin/users").status_code == 403
        stack.api.patch(f"/admin/users/{user['id']}", json={"status": "DISABLED"})
        assert ada.get("/admin/events").status_code == 401
    assert httpx2.post(link, trust_env=False).status_code == 410


def test_an_event_switches_a_pipeline_off_and_opens_no_run_of_it_any_more(stack: Stack) -> None:
    trigger_id, target_id = stack.github_trigger("switching"), stack.sleeping_pipeline("switched", seconds=0)
    (pipeline,) = [entry for entry in stack.get("/admin/pipelines?limit=200")["items"] if entry["name"] == "switched"]
    config = {"pipelineId": pipeline["id"], "isEnabled": False}
    action = stack.create(
        "actions", name="switch", capability={"plugin": _CORE, "key": "pipeline.toggle"}, config=config
    )
    step = {"name": "switch", "actionId": action["id"], "sortOrder": 1}
    stack.create("pipelines", name="switching", triggers=[{"triggerId": trigger_id}], steps=[step])

    assert stack.until_ended(stack.fire(trigger_id, {}), 30)["status"] == "SUCCEEDED"

    assert stack.get(f"/admin/pipelines/{pipeline['id']}")["isEnabled"] is False
    assert stack.until_ended(stack.fire(target_id, {}), 30)["status"] == "IGNORED"


def test_no_program_runs_unless_the_operator_lets_it(stack: Stack) -> None:
    body = {"name": "run", "capability": {"plugin": _CORE, "key": "command.run"}, "config": {"argv": ["true"]}}

    answer = stack.api.post("/admin/actions", json=body)

    assert answer.status_code == 422
    assert "COMMAND_RUN_ENABLED" in answer.json()["detail"]
