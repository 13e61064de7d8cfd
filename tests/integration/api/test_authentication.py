import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN, Query, ScopedClient, TokenClient


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("Basic abc", "malformed"),
        ("Bearer short", "malformed"),
        ("Bearer lfk_" + "x" * 43, "unknown"),
    ],
)
async def test_a_call_without_a_good_token_is_401_and_audited(
    client_with: TokenClient, query: Query, header: str | None, reason: str
) -> None:
    answer = await client_with(None).get("/admin/triggers", headers={"Authorization": header} if header else {})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"
    (entry,) = query("SELECT * FROM audit_entries WHERE kind = 'auth'")
    assert entry["detail"] == {"outcome": "denied", "reason": reason, "method": "GET", "path": "/admin/triggers"}


async def test_only_public_paths_open_without_a_token(client_with: TokenClient) -> None:
    client = client_with(None)

    assert (await client.get("/nowhere")).status_code == 401
    assert (await client.get("/hooks/nowhere")).status_code == 404
    assert (await client.get("/openapi.json")).status_code == 200
    assert (await client.get("/docs")).status_code == 200


async def test_a_body_is_not_looked_at_before_the_token_and_its_scope(
    client_with: TokenClient, scoped: ScopedClient
) -> None:
    reader = await scoped("definitions:read")
    broken = {"content": b"{", "headers": {"Content-Type": "application/json"}}

    assert (await client_with(None).post("/admin/triggers", **broken)).status_code == 401  # type: ignore[arg-type]
    assert (await reader.post("/admin/triggers", **broken)).status_code == 403  # type: ignore[arg-type]


async def test_a_missing_scope_is_403_names_it_and_is_audited(scoped: ScopedClient, query: Query) -> None:
    reader = await scoped("definitions:read")

    answer = await reader.get("/admin/audit")

    assert answer.status_code == 403
    assert "audit:read" in answer.json()["detail"]
    (entry,) = query("SELECT * FROM audit_entries WHERE kind = 'auth'")
    assert entry["actor"] == "limited"
    assert entry["detail"]["scope"] == "audit:read"


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/admin/plugins", "plugins:read"),
        ("/admin/triggers", "definitions:read"),
        ("/admin/actions", "definitions:read"),
        ("/admin/pipelines", "definitions:read"),
        ("/admin/events", "events:read"),
        ("/admin/audit", "audit:read"),
        ("/admin/tokens", "users:read"),
    ],
)
async def test_each_list_opens_with_exactly_its_scope(scoped: ScopedClient, path: str, scope: str) -> None:
    holder = await scoped(scope)
    other = await scoped("codec:decode", "definitions:write")

    assert (await holder.get(path)).status_code == 200
    assert (await other.get(path)).status_code == 403


async def test_a_revoked_token_and_an_expired_one_are_401(
    client: httpx2.AsyncClient, client_with: TokenClient, query: Query
) -> None:
    tokens = {}
    for name in ("revoked", "expired"):
        answer = await client.post(
            "/admin/tokens", json={"name": name, "scopes": ["events:read"], "expiresAt": "2990-01-01T00:00:00Z"}
        )
        tokens[name] = answer.json()
    revoked = await client.delete(f"/admin/tokens/{tokens['revoked']['id']}")
    query("UPDATE tokens SET expires_at = now() WHERE name = 'expired'")

    assert revoked.status_code == 204
    for token in tokens.values():
        assert (await client_with(token["token"]).get("/admin/events")).status_code == 401
    reasons = query("SELECT detail->>'reason' AS reason, actor FROM audit_entries WHERE kind = 'auth' ORDER BY seq")
    assert reasons == [{"reason": "revoked", "actor": "revoked"}, {"reason": "expired", "actor": "expired"}]


async def test_a_token_is_shown_once_and_stored_only_as_a_hash(client: httpx2.AsyncClient, query: Query) -> None:
    created = await client.post("/admin/tokens", json={"name": "ci", "scopes": ["events:read", "events:read"]})
    listed = await client.get("/admin/tokens")

    token = created.json()["token"]
    assert token.startswith("lfk_")
    assert created.json()["scopes"] == ["events:read"]
    assert token not in listed.text
    assert "token" not in listed.json()["items"][1]
    assert token not in str(query("SELECT * FROM tokens")) + str(query("SELECT * FROM audit_entries"))


async def test_a_token_gives_only_scopes_it_holds(scoped: ScopedClient, query: Query) -> None:
    admin = await scoped("users:write", "events:read")

    allowed = await admin.post("/admin/tokens", json={"name": "a", "scopes": ["events:read"]})
    denied = await admin.post("/admin/tokens", json={"name": "b", "scopes": ["events:read", "*"]})

    assert allowed.status_code == 201
    assert denied.status_code == 403
    assert "*" in denied.json()["detail"]
    assert query("SELECT 1 FROM tokens WHERE name = 'b'") == []


async def test_a_token_that_may_do_more_cannot_be_revoked(
    client: httpx2.AsyncClient, scoped: ScopedClient, query: Query
) -> None:
    admin = await scoped("users:write", "users:read", name="admin")
    await scoped("events:read", name="other")
    await scoped("users:read", name="less")
    ids = {token["name"]: token["id"] for token in (await client.get("/admin/tokens")).json()["items"]}

    statuses = {name: (await admin.delete(f"/admin/tokens/{ids[name]}")).status_code for name in ids if name != "admin"}

    assert statuses == {"bootstrap": 403, "other": 403, "less": 204}
    denied = query("SELECT actor, detail->>'scope' AS scope FROM audit_entries WHERE kind = 'auth' ORDER BY seq")
    assert denied == [{"actor": "admin", "scope": "*"}, {"actor": "admin", "scope": "events:read"}]


@pytest.mark.parametrize("name", ["boss@example.org", "bootstrap", "Settings"])
async def test_a_token_cannot_take_the_name_of_somebody_else(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.post("/admin/tokens", json={"name": name, "scopes": ["events:read"]})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/name"]


async def test_the_audit_tells_tokens_of_one_name_apart(
    client: httpx2.AsyncClient, scoped: ScopedClient, query: Query
) -> None:
    for _ in range(2):
        one = await scoped("users:write", name="twin")
        await one.post("/admin/tokens", json={"name": "made", "scopes": ["users:write"]})
        await one.get("/admin/events")

    twins = [str(row["id"]) for row in query("SELECT id FROM tokens WHERE name = 'twin' ORDER BY created_at")]
    told = query("SELECT detail#>>'{caller,tokenId}' AS id FROM audit_entries WHERE actor = 'twin' ORDER BY seq")
    assert [row["id"] for row in told] == [twins[0], twins[0], twins[1], twins[1]]


async def test_an_unknown_scope_and_a_past_expiry_are_422(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/admin/tokens", json={"name": "x", "scopes": ["events:dance"], "expiresAt": "2001-01-01T00:00:00Z"}
    )

    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/scopes/0", "/expiresAt"}


async def test_last_use_is_noted_at_most_once_a_minute(client: httpx2.AsyncClient, query: Query) -> None:
    await client.get("/admin/events")
    first = query("SELECT last_used_at FROM tokens")
    await client.get("/admin/events")

    assert first[0]["last_used_at"] is not None
    assert query("SELECT last_used_at FROM tokens") == first


async def test_a_changed_bootstrap_token_replaces_the_former(
    app: FastAPI, settings: Settings, client_with: TokenClient, query: Query
) -> None:
    changed = settings.model_copy(update={"bootstrap_token": type(settings.bootstrap_token)("lfk_" + "c" * 43)})
    for start in (settings, changed):
        again = create_app(start)
        async with again.router.lifespan_context(again):
            pass

    assert (await client_with(BOOTSTRAP_TOKEN).get("/admin/events")).status_code == 401
    assert (await client_with("lfk_" + "c" * 43).get("/admin/events")).status_code == 200
    entries = query("SELECT detail->>'operation' AS operation FROM audit_entries WHERE kind = 'admin' ORDER BY seq")
    assert [entry["operation"] for entry in entries] == ["create", "update"]
