"""The codec server of Temporal's CLI and Web UI: turns sealed payloads into what they hold, and back."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payload, Payloads

from api.auth import Caller, requires
from api.context import ContextDep
from latchflow.crypto import Keyring
from latchflow.errors import FieldError, InvalidInputError, MalformedError, NotFoundError, SealError
from latchflow.temporal.codec import SealingCodec

router = APIRouter(prefix="/codec", include_in_schema=False)


async def _payloads(request: Request) -> Payloads:
    try:
        return Parse(await request.body(), Payloads())
    except (ParseError, UnicodeDecodeError):
        raise MalformedError('Send {"payloads": […]} as Temporal\'s JSON writes it.') from None


SentPayloads = Annotated[Payloads, Depends(_payloads)]


@router.post("/decode")
async def decode(context: ContextDep, _: Annotated[Caller, requires("codec:decode")], sent: SentPayloads) -> Response:
    """For a caller with a token, such as ``temporal workflow show --codec-endpoint … --codec-auth …``."""
    return _answer(await _decoded(context.keyring, sent))


@router.post("/encode")
async def encode(context: ContextDep, _: Annotated[Caller, requires("codec:encode")], sent: SentPayloads) -> Response:
    """For a caller with a token that starts workflows by hand."""
    return _answer(await SealingCodec(context.keyring).encode(sent.payloads))


@router.post("/ui/{key}/decode")
async def decode_for_ui(context: ContextDep, key: str, sent: SentPayloads) -> Response:
    """For the development Web UI, which cannot send a token: its address holds a key nobody can guess."""
    expected = context.settings.codec_ui_key.get_secret_value()
    if not expected or not secrets.compare_digest(key.encode(), expected.encode()):
        raise NotFoundError("There is nothing at this address.")
    return _answer(await _decoded(context.keyring, sent))


async def _decoded(keyring: Keyring, sent: Payloads) -> list[Payload]:
    opened: list[Payload] = []
    for position, payload in enumerate(sent.payloads):
        try:
            opened += await SealingCodec(keyring).decode([payload])
        except SealError as error:
            message = error.message if error.key_id is None else f"{error.message} Its key id is {error.key_id!r}."
            fault = FieldError(pointer=f"/payloads/{position}/data", message=message)
            raise InvalidInputError(f"Payload {position} cannot be opened. {message}", [fault]) from None
    return opened


def _answer(payloads: list[Payload]) -> Response:
    return Response(MessageToJson(Payloads(payloads=payloads)), media_type="application/json")
