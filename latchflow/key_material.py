"""Fresh keys and tokens, each 256 bit from the operating system's random source."""

import secrets
from base64 import b64encode
from datetime import UTC, datetime

_KEY_BYTES = 32


def new_encryption_key() -> str:
    """A key for ``ENCRYPTION_KEY``: ``kid:base64-32-bytes``, where the id tells the day it was made."""
    key_id = f"k{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}"
    return f"{key_id}:{b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}"


def new_token() -> str:
    """An API token: ``lfk_`` and 43 URL-safe characters."""
    return f"lfk_{new_secret()}"


def new_secret() -> str:
    """A password or unguessable path segment of 43 URL-safe characters."""
    return secrets.token_urlsafe(_KEY_BYTES)
