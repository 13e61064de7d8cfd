"""Sealing what Temporal stores: inputs, results, failures, memos and summaries."""

from collections.abc import Sequence
from dataclasses import replace

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from latchflow.crypto import Keyring

ENCODING = b"binary/encrypted"
_PLACE = "temporal/payload"


class SealingCodec(PayloadCodec):
    """Seals each payload whole, with its metadata, through the keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Seal each payload."""
        metadata = {"encoding": ENCODING, "encryption-key-id": self._keyring.writing_key_id.encode()}
        return [
            Payload(metadata=metadata, data=self._keyring.seal(payload.SerializeToString(), _PLACE))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Open each sealed payload; others pass unchanged.

        Raises:
            SealError: A payload cannot be opened.
        """
        return [
            Payload.FromString(self._keyring.open(payload.data, _PLACE))
            if payload.metadata.get("encoding") == ENCODING
            else payload
            for payload in payloads
        ]


def data_converter(keyring: Keyring) -> DataConverter:
    """Pydantic on the outside of JSON, everything sealed, messages and stack traces of failures too."""
    return replace(
        pydantic_data_converter,
        payload_codec=SealingCodec(keyring),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
