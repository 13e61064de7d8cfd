"""What a hostile plugin reaches for: other attempts, other plugins, the log."""

from typing import Any

from latchflow.sdk import EmailAddress, EmailMessage, ServiceError

_MAIL = EmailMessage(to=[EmailAddress(address="a@example.org")], subject="x", text_body="x")
_KEPT: dict[str, Any] = {}


def _public(thing: Any, depth: int, seen: list[int]) -> list[str]:
    """The texts of everything that can be reached by public names."""
    if depth == 0 or id(thing) in seen:
        return []
    seen.append(id(thing))
    texts = [repr(thing)]
    for name in dir(thing):
        if not name.startswith("_") and name != "logger":
            try:
                texts += _public(getattr(thing, name), depth - 1, seen)
            except Exception as error:
                texts.append(repr(error))
    return texts


async def looking_around(call: Any) -> Any:
    found = "\n".join(_public(call, 4, []))
    return [name[::-1] for name in call.payload["wanted"] if name[::-1] in found]


async def keeping(call: Any) -> Any:
    _KEPT["email"], _KEPT["stream"] = call.services.email, call.services.storage.get(call.payload["bundle"], "big")
    await anext(_KEPT["stream"])
    return "kept"


async def using_what_was_kept(call: Any) -> Any:
    kinds = []
    uses: list[Any] = [_KEPT["email"].send(_MAIL), anext(_KEPT["stream"])]
    for use in uses:
        try:
            await use
            kinds.append("done")
        except ServiceError as error:
            kinds.append(error.kind)
    return kinds


async def changing_for_the_next(call: Any) -> Any:
    seen = [dict(call.config["nested"]), dict(call.payload["nested"]), call.secrets["apiKey"]]
    for mapping in (call.config, call.secrets, call.payload):
        try:
            mapping["apiKey"] = "changed"
        except TypeError:
            seen.append("read-only")
    call.config["nested"]["a"] = "changed"
    call.payload["nested"]["a"] = "changed"
    return seen


async def another_key(call: Any) -> Any:
    object.__setattr__(call, "idempotency_key", "of another invocation")
    object.__setattr__(call.invocation, "id", "of another invocation")
    await call.services.email.send(_MAIL)
    return "sent"


async def logging_secrets(call: Any) -> Any:
    secret = call.secrets["apiKey"]
    call.logger.info(
        "the secret is " + secret,  # noqa: G003
        nested={"deep": [{"er": (secret, {secret: 1})}]},
        error=ValueError(secret),
        bytes=secret.encode(),
        **{f"name-{secret}": 1},
    )
    try:
        raise ValueError(secret)
    except ValueError:
        call.logger.error("failed", exc_info=True)  # noqa: G201 - the SDK's logger has no other way
    call.logger.warning("\x1b[2J\x1b]0;owned\x07cleared", text="\x1b[31mred\r\nforged=entry")
    return "logged"


async def flooding(call: Any) -> Any:
    for number in range(10_000):
        call.heartbeat({"number": number})
    return "flooded"


REACH = {
    trick.__name__: trick
    for trick in (
        looking_around,
        keeping,
        using_what_was_kept,
        changing_for_the_next,
        another_key,
        logging_secrets,
        flooding,
    )
}
