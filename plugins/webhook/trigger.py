"""From a request to an event, or to the reason why there is none."""

import hashlib
from typing import Any

from latchflow.sdk import Emit, InboundRequest, Reject

from .body import MalformedBodyError, parse_body
from .config import WebhookConfig
from .verification import VERIFIERS, VerificationError

_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "webhook-signature", "x-hub-signature", "x-hub-signature-256"}
)
_MAX_KEY_CHARACTERS = 255


def webhook(request: InboundRequest, config: WebhookConfig) -> Emit | Reject:
    """Verify the request and make an event of it.

    Nothing of the body is read before its signature is known to be right.
    """
    if request.method not in config.methods:
        return Reject(status=405, reason=f"This webhook takes {', '.join(config.methods)}.")
    try:
        VERIFIERS[config.verification](request, config)
    except VerificationError as error:
        return Reject(status=401, reason=str(error))
    key, is_key_signed = _key(request, config.verification)
    if key is not None and len(key) > _MAX_KEY_CHARACTERS:
        return Reject(status=400, reason=f"The idempotency key is longer than {_MAX_KEY_CHARACTERS} characters.")
    try:
        body, facts = parse_body(request, is_github=config.verification == "github")
    except MalformedBodyError as error:
        return Reject(status=400, reason=str(error))
    context = {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "headers": {name: value for name, value in request.headers.items() if name not in _CREDENTIAL_HEADERS},
        "body": body,
        "receivedAt": request.received_at.isoformat().replace("+00:00", "Z"),
    }
    metadata = _metadata(request, config.verification) | facts
    return Emit(context=context, metadata=metadata, key=key, is_key_signed=is_key_signed)


def _key(request: InboundRequest, verification: str) -> tuple[str | None, bool]:
    """What makes a second delivery the same event, and whether the sender signed it."""
    if verification == "github":
        event = request.headers.get("x-github-event", "")
        return hashlib.sha256(event.encode() + b"\n" + request.body).hexdigest(), True
    if verification == "standard-webhooks":
        return request.headers["webhook-id"], True
    return request.headers.get("idempotency-key") or None, False


def _metadata(request: InboundRequest, verification: str) -> dict[str, Any]:
    names = {
        "github": {"event": "x-github-event", "deliveryId": "x-github-delivery"},
        "standard-webhooks": {"deliveryId": "webhook-id"},
    }.get(verification, {})
    facts = {fact: request.headers[name] for fact, name in names.items() if name in request.headers}
    return {"source": "webhook" if verification == "none" else verification, **facts}
