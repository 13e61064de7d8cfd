"""The keyring: sealing values for one place and opening them there, and only there.

An envelope is ``b"lf1"``, the length of the key id (one byte), the key id, a nonce of 12 bytes, and AES-256-GCM's
ciphertext with its tag. The associated data is the place the value belongs to, so that an envelope copied into
another row, column or plugin does not open.
"""

import base64
import binascii
import hashlib
import json
import os
import re
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from latchflow.errors import ConfigurationError, SealError

_MAGIC = b"lf1"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_HOW = "Make one with `latchflow keys generate` and set ENCRYPTION_KEY to it."


class Keyring:
    """The keys of ``ENCRYPTION_KEY``: the first seals, all open.

    Attributes:
        writing_key_id: The id of the key that seals.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.writing_key_id = next(iter(keys))
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._prefix = _MAGIC + bytes([len(self.writing_key_id)]) + self.writing_key_id.encode()

    @classmethod
    def from_setting(cls, value: str) -> "Keyring":
        """Read ``kid:base64-32-bytes[,kid:base64…]``; a key without an id gets one derived from its bytes.

        Raises:
            ConfigurationError: The value is missing or malformed. The message never quotes it.
        """
        if not value.strip():
            raise ConfigurationError(f"ENCRYPTION_KEY is not set. {_HOW}")
        keys: dict[str, bytes] = {}
        for position, part in enumerate(value.split(","), start=1):
            key_id, key = _read_key(part.strip(), position)
            if key_id in keys:
                raise ConfigurationError(f"ENCRYPTION_KEY names the key id {key_id!r} twice. Give each key its own id.")
            keys[key_id] = key
        return cls(keys)

    def seal(self, plaintext: bytes, place: str) -> bytes:
        """Encrypt for one place, for example ``action_definitions/{id}/config``."""
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self.writing_key_id].encrypt(nonce, plaintext, place.encode())
        return self._prefix + nonce + ciphertext

    def open(self, envelope: bytes, place: str) -> bytes:
        """Decrypt what was sealed for this place.

        Raises:
            SealError: The key is not in the ring (``key_id`` names it), the bytes were changed, or the place differs.
        """
        key_id, rest = _split(bytes(envelope))
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(f"The key {key_id!r} is not in ENCRYPTION_KEY. Add it to read this value.", key_id=key_id)
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            message = "A sealed value was changed, or belongs to another place, or its key id now names another key."
            raise SealError(message, key_id=key_id) from None

    def seal_json(self, value: Any, place: str) -> bytes:
        """Seal a JSON-serialisable value."""
        return self.seal(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), place)

    def open_json(self, envelope: bytes, place: str) -> Any:
        """Open what `seal_json` sealed.

        Raises:
            SealError: As `open`.
        """
        return json.loads(self.open(envelope, place))


def _read_key(part: str, position: int) -> tuple[str, bytes]:
    key_id, separator, encoded = part.rpartition(":")
    try:
        key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"Key {position} of ENCRYPTION_KEY is no base64. {_HOW}") from None
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(f"Key {position} of ENCRYPTION_KEY has {len(key)} bytes, it needs 32. {_HOW}")
    if not separator:
        key_id = hashlib.sha256(b"latchflow key id" + key).hexdigest()[:8]
    elif not _KEY_ID.fullmatch(key_id):
        message = f"The id of key {position} of ENCRYPTION_KEY has other characters than letters, digits, . _ and -."
        raise ConfigurationError(message)
    return key_id, key


def _split(envelope: bytes) -> tuple[str, bytes]:
    start = len(_MAGIC) + 1
    if not envelope.startswith(_MAGIC) or len(envelope) < start:
        raise SealError("These bytes are no sealed value.")
    end = start + envelope[len(_MAGIC)]
    rest = envelope[end:]
    try:
        key_id = envelope[start:end].decode("ascii")
    except UnicodeDecodeError:
        raise SealError("These bytes are no sealed value.") from None
    if len(rest) < _NONCE_BYTES + _TAG_BYTES:
        raise SealError("A sealed value was cut short.", key_id=key_id)
    return key_id, rest
