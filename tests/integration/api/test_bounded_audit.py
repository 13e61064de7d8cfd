from dataclasses import replace
from pathlib import Path

import httpx2
from fastapi import FastAPI

from api.app import create_app
from api.bounded_audit import BoundedAudit
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN, Query, TokenClient

ROOT = Path(__file__).resolve().parents[3]
_COUNTS = "SELECT phase, detail->'suppressed' AS suppressed FROM audit_entries WHERE kind = %s ORDER BY seq"


def _with_clock(app: FastAPI, now: list[float]) -> None:
    context = app.state.context
    app.state.context = replace(
        context,
        denials=BoundedAudit(context.database, clock=lambda: now[0]),
        rejections=BoundedAudit(context.database, clock=lambda: now[0]),
    )


async def test_a_flood_of_refused_calls_is_counted_instead_of_written(
    app: FastAPI, client_with: TokenClient, query: Query
) -> None:
    now = [0.0]
    _with_clock(app, now)
    stranger = client_with(None)

    for _ in range(303):
        assert (await stranger.get("/admin/triggers")).status_code == 401
    now[0] = 60
    await stranger.get("/admin/triggers")

    assert [row["suppressed"] for row in query(_COUNTS, "auth")] == [None] * 300 + [3]


async def test_a_flood_of_rejected_deliveries_is_counted_instead_of_written(settings: Settings, query: Query) -> None:
    now = [0.0]
    app = create_app(settings.model_copy(update={"home": ROOT}))
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://api.example") as client,
    ):
        _with_clock(app, now)
        body = {
            "name": "pushes",
            "capability": {"plugin": "@latchflow/plugin-webhook", "key": "webhook"},
            "config": {"verification": "github", "secret": "a secret of the tests"},
        }
        admin = {"Authorization": f"Bearer {BOOTSTRAP_TOKEN}"}
        trigger = (await client.post("/admin/triggers", json=body, headers=admin)).json()

        for _ in range(303):
            assert (await client.post(f"/hooks/{trigger['id']}", json={})).status_code == 401
        now[0] = 60
        await client.post(f"/hooks/{trigger['id']}", json={})

    rows = query(_COUNTS, "trigger")
    assert {row["phase"] for row in rows} == {"REJECTED"}
    assert [row["suppressed"] for row in rows] == [None] * 300 + [3]
