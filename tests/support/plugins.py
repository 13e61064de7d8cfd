"""Plugins as the loader would have stored them."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from latchflow.names import capability_id, plugin_id

PLUGIN = "@acme/testing"

TRIGGER_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"verification": {"enum": ["bearer", "none"]}, "secret": {"type": "string", "writeOnly": True}},
    "required": ["verification"],
    "additionalProperties": False,
}
ACTION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "format": "uri"},
        "count": {"type": "integer", "minimum": 1},
        "apiKey": {"type": "string", "minLength": 8, "writeOnly": True},
        "login": {"type": "object", "writeOnly": True, "properties": {"password": {"type": "string"}}},
        "values": {"type": "object", "x-latchflow-template": True},
    },
    "required": ["url"],
    "additionalProperties": False,
}


def add_plugin(
    url: str,
    name: str = PLUGIN,
    *,
    status: str = "ENABLED",
    capabilities: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
) -> UUID:
    """Store a plugin; by default one that brings the trigger ``inbound`` and the action ``call``."""
    brought = capabilities or {("TRIGGER", "inbound"): TRIGGER_SCHEMA, ("ACTION", "call"): ACTION_SCHEMA}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO plugins (id, name, display_name, version, status, scopes, granted_scopes, code_hash)
            VALUES (%s, %s, %s, '1.0.0', %s, '{email:send}', '{email:send}', 'c0de')
            """,
            (plugin_id(name), name, name.title(), status),
        )
        for (kind, key), schema in brought.items():
            connection.execute(
                """
                INSERT INTO capabilities (id, plugin_id, kind, key, display_name, config_schema, scopes)
                VALUES (%s, %s, %s, %s, %s, %s, '{}')
                """,
                (capability_id(name, kind, key), plugin_id(name), kind, key, key.title(), Jsonb(dict(schema))),
            )
    return plugin_id(name)
