"""What a hostile plugin hands to services."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from latchflow.sdk import EmailAddress, EmailMessage, HttpRequest, ServiceError

from .lies import Equal, Forever, OtherId, Raising, Turning, Twice, endless

_MAIL = EmailMessage(to=[EmailAddress(address="a@example.org")], subject="x", text_body="x")
_URL = "https://example.org/"


async def _kinds(*calls: Any) -> list[str]:
    """How each call went: ``done``, or the kind of its error."""
    kinds = []
    for make in calls:
        try:
            await make()
            kinds.append("done")
        except ServiceError as error:
            kinds.append(error.kind)
    return kinds


async def undeclared_scopes(call: Any) -> Any:
    send = call.services.email.send
    return await _kinds(
        lambda: send(_MAIL),
        lambda: send(_MAIL, requested_scopes=()),
        lambda: send(_MAIL, requested_scopes=[Equal("users:write")]),
        lambda: send(_MAIL, requested_scopes=endless()),
        lambda: send(_MAIL, requested_scopes="email:send"),
        lambda: send(_MAIL, requested_scopes=[5]),
        lambda: call.services.users.invite("a@example.org", requested_scopes=()),
        lambda: call.services.resources.set_pipeline_enabled(UUID(int=1), False, requested_scopes=()),
        lambda: call.services.storage.put(UUID(int=1), "x", b"x", requested_scopes=()),
    )


async def lying_scope(call: Any) -> Any:
    return await _kinds(lambda: call.services.email.send(_MAIL, requested_scopes=[Equal("users:write")]))


async def forged_actors(call: Any) -> Any:
    def send(actor: Any) -> Any:
        return lambda: call.services.email.send(_MAIL, actor_id=actor)

    actors = ["bob\nkind=admin", "\x1b[31mroot", "x" * 201, 5, b"root", ["root"], "a\0b", "\ud800", Turning("\nroot")]
    return await _kinds(*map(send, actors))


async def mail_injection(call: Any) -> Any:
    evil = "x\r\nBcc: victim@example.org"
    ada = EmailAddress(address="a@example.org")
    messages = [
        replace(_MAIL, subject=evil),
        replace(_MAIL, subject="x\0y"),
        replace(_MAIL, subject=Turning(evil)),
        replace(_MAIL, headers={"X-A": evil}),
        replace(_MAIL, headers={evil: "x"}),
        replace(_MAIL, headers={"Bcc": "victim@example.org"}),
        replace(_MAIL, headers={Turning("Bcc"): "victim@example.org"}),
        replace(_MAIL, to=[EmailAddress(address=evil)]),
        replace(_MAIL, to=[EmailAddress(address="a@example.org", display_name=evil)]),
        replace(_MAIL, reply_to=EmailAddress(address="a@example.org,victim@example.org")),
        replace(_MAIL, sender=EmailAddress(address="a@example.org", display_name="x\ny")),
        replace(_MAIL, to=[ada] * 2000),
        replace(_MAIL, to=ada),  # type: ignore[arg-type]
        replace(_MAIL, headers=Raising()),
        "To: victim@example.org",
    ]
    return await _kinds(*(lambda message=message: call.services.email.send(message) for message in messages))


async def mail_that_changes(call: Any) -> Any:
    headers = Twice({"X-A": "harmless"}, {"Bcc": "victim@example.org", "X-B": "x\r\nBcc: victim@example.org"})
    return await _kinds(lambda: call.services.email.send(replace(_MAIL, headers=headers)))


async def http_injection(call: Any) -> Any:
    evil = "x\r\nHost: internal"
    requests = [
        HttpRequest(method="GET", url=_URL, headers={"X-A": evil}),
        HttpRequest(method="GET", url=_URL, headers={evil: "x"}),
        HttpRequest(method="GET", url=_URL, secret_headers={"X-A": "a\0b"}),
        HttpRequest(method="GET", url=_URL, headers={"X-A": Turning(evil)}),
        HttpRequest(method="GET / HTTP/1.1\r\nHost: internal\r\n\r\nGET", url=_URL),
        HttpRequest(method="CONNECT", url=_URL),
        HttpRequest(method="GET", url=_URL, headers=Raising()),
        HttpRequest(method="GET", url=_URL, timeout="soon"),  # type: ignore[arg-type]
    ]
    return await _kinds(*(lambda request=request: call.services.http.request(request) for request in requests))


async def smuggled_headers(call: Any) -> Any:
    requests = [
        HttpRequest(method="POST", url=_URL, headers={"Host": "internal"}),
        HttpRequest(method="POST", url=_URL, headers={"hOsT": "internal"}),
        HttpRequest(method="POST", url=_URL, secret_headers={"Content-Length": "0"}, content=b"x"),
        HttpRequest(method="POST", url=_URL, headers={"Transfer-Encoding": "chunked"}, content=b"x"),
        HttpRequest(method="POST", url=_URL, headers={Turning("Host"): "internal"}),
    ]
    return await _kinds(*(lambda request=request: call.services.http.request(request) for request in requests))


async def headers_that_change(call: Any) -> Any:
    headers = Twice({"X-A": "harmless"}, {"Host": "internal", "Content-Length": "0"})
    return await _kinds(
        lambda: call.services.http.request(HttpRequest(method="POST", url=_URL, headers=headers, content=b"x"))
    )


async def credentials_in_urls(call: Any) -> Any:
    urls = ["https://user:password@example.org/", "https://user@example.org/", "file:///etc/passwd", "gopher://x/", ""]
    return await _kinds(
        *(lambda url=url: call.services.http.request(HttpRequest(method="GET", url=url)) for url in urls)
    )


async def redirected(call: Any) -> Any:
    url = call.payload["url"]
    return await _kinds(lambda: call.services.http.request(HttpRequest(method="GET", url=url)))


async def paths_out_of_the_bundle(call: Any) -> Any:
    paths: list[Any] = [5, None, b"x", ["x"]]
    return await _kinds(
        *(lambda path=path: call.services.storage.put(UUID(int=1), path, b"x") for path in paths),
        lambda: call.services.storage.put("../1", "x", b"x"),
        lambda: call.services.storage.put(object(), "x", b"x"),
        lambda: call.services.storage.create_release_link(UUID(int=1), expires_in=3600),
        lambda: call.services.storage.create_release_link(UUID(int=1), expires_in=timedelta(1), max_downloads="many"),
    )


async def another_id(call: Any) -> Any:
    stored = await call.services.storage.put(OtherId(int=7), Turning("a.txt"), b"x")
    link = await call.services.storage.create_release_link(OtherId(int=7), expires_in=Forever(days=1))
    return [str(stored.bundle_id), stored.path, type(stored.path).__name__, str(link.id)]


async def inviting_admins(call: Any) -> Any:
    invite = call.services.users.invite
    return await _kinds(
        lambda: invite("eve@example.org", role="ADMIN"),
        lambda: invite("eve@example.org", role=Equal("ADMIN")),
        lambda: invite("eve@example.org", role=Turning("ADMIN")),
        lambda: invite("eve@example.org", role=None),
        lambda: invite("eve@example.org\r\nBcc: x@example.org"),
    )


ARGUMENTS = {
    trick.__name__: trick
    for trick in (
        undeclared_scopes,
        lying_scope,
        forged_actors,
        mail_injection,
        mail_that_changes,
        http_injection,
        smuggled_headers,
        headers_that_change,
        credentials_in_urls,
        redirected,
        paths_out_of_the_bundle,
        another_id,
        inviting_admins,
    )
}
