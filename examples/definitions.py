"""Creating the definitions of an example through the admin API."""

import os
import re
from pathlib import Path
from typing import Any

import httpx2
import yaml

_REFERENCE = re.compile(r"\$\{env:([A-Z0-9_]+)\}")


def apply(api: httpx2.Client, file: Path) -> dict[str, str]:
    """Create what the file describes: triggers, actions, then pipelines.

    Returns:
        The ids by name, of all three kinds.
    """
    document: dict[str, list[dict[str, Any]]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    ids: dict[str, str] = {}
    for kind in ("triggers", "actions"):
        for definition in document.get(kind, []):
            created = _create(api, f"/admin/{kind}", {"isEnabled": True, **_filled(definition)})
            ids[created["name"]] = created["id"]
    for pipeline in document.get("pipelines", []):
        body = {
            **_filled(pipeline),
            "isEnabled": True,
            "triggers": [{"triggerId": ids[name]} for name in pipeline["triggers"]],
            "steps": [_step(step, ids) for step in pipeline["steps"]],
        }
        created = _create(api, "/admin/pipelines", body)
        ids[created["name"]] = created["id"]
    return ids


def _step(step: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    return {**{key: value for key, value in step.items() if key != "action"}, "actionId": ids[step["action"]]}


def _filled(value: Any) -> Any:
    """Every ``${env:NAME}`` replaced by the variable of that name."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: os.environ[match[1]], value)
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item) for item in value]
    return value


def _create(api: httpx2.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post(path, json=body)
    if answer.status_code != 201:
        raise RuntimeError(f"POST {path} for {body.get('name')!r} answered {answer.status_code}: {answer.text}")
    created: dict[str, Any] = answer.json()
    return created
