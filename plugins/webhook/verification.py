"""Who really sent it: signatures over the raw bytes, compared in constant time."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from latchflow.sdk import InboundRequest

from .config import WebhookConfig

_NOT_AUTHENTIC = "The signature does not match. Check that sender and webhook have the same secret."


class VerificationError(Exception):
    """The request is not authentic, or too old; the message may be told to its sender."""


def verify_github(request: InboundRequest, _: WebhookConfig) -> None:
    """``X-Hub-Signature-256``: HMAC-SHA-256 of the body.

    Raises:
        VerificationError: It is missing or wrong.
    """
    given = request.headers.get("x-hub-signature-256")
    if given is None:
        raise VerificationError(
            "The header X-Hub-Signature-256 is missing. Set a secret in the settings of the sender."
        )
    expected = [
        "sha256=" + hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest() for secret in _secrets(request)
    ]
    _require_match([given], expected)


def verify_standard(request: InboundRequest, config: WebhookConfig) -> None:
    """Standard Webhooks: HMAC-SHA-256 of id, time and body; the time must be near.

    Raises:
        VerificationError: A header is missing or malformed, the time is too far off, or no signature is right.
    """
    message_id, timestamp, signatures = (_header(request.headers, f"webhook-{name}") for name in _STANDARD_HEADERS)
    # The library's own check of the time has a fixed tolerance, so only its signing is used.
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11):
        raise VerificationError("The header webhook-timestamp is not a time in seconds.")
    signed_at = datetime.fromtimestamp(int(timestamp), UTC)
    if abs((request.received_at - signed_at).total_seconds()) > config.tolerance_seconds:
        raise VerificationError(f"The signed time is more than {config.tolerance_seconds} s off. Check the clocks.")
    try:
        body = request.body.decode()
        expected = [Webhook(secret).sign(message_id, signed_at, body) for secret in _secrets(request)]
    except UnicodeDecodeError:
        raise VerificationError("The body is not UTF-8, so it cannot have been signed by this scheme.") from None
    except (EmptyWebhookSecretError, ValueError):
        raise VerificationError("The secret of this webhook is not base64. Its owner must set it anew.") from None
    _require_match(signatures.split(), expected)


def verify_nothing(_request: InboundRequest, _config: WebhookConfig) -> None:
    """Take every request, as the config says."""


Verifier = Callable[[InboundRequest, WebhookConfig], None]
_STANDARD_HEADERS = ("id", "timestamp", "signature")
VERIFIERS: Mapping[str, Verifier] = {
    "github": verify_github,
    "standard-webhooks": verify_standard,
    "none": verify_nothing,
}


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise VerificationError(f"The header {name} is missing.")
    return value


def _secrets(request: InboundRequest) -> list[str]:
    secrets = [request.secrets.get(name) for name in ("secret", "previousSecret")]
    return [secret for secret in secrets if isinstance(secret, str) and secret]


def _require_match(given: list[str], expected: list[str]) -> None:
    # Bytes, because the comparison refuses text outside ASCII, and a sender may send anything.
    pairs = [(one.encode(), other.encode()) for one in given for other in expected]
    if not any([hmac.compare_digest(one, other) for one, other in pairs]):  # noqa: C419 - every pair is compared
        raise VerificationError(_NOT_AUTHENTIC)
