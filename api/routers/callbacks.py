"""``/callbacks/{token}``: where those who were asked for something outside say that it is there."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.context import Context, ContextDep
from api.errors import UnsupportedMediaTypeError
from api.routing import PROBLEMS, is_json, read_json, read_text
from latchflow.errors import ConflictError, GoneError, LatchflowError, NotFoundError, TooLargeError
from latchflow.model import AuditKind
from latchflow.store import callbacks
from latchflow.store.audit import AuditEntry, record
from latchflow.store.callbacks import Presented

MAX_BODY_BYTES = 256 * 1024

router = APIRouter(prefix="/callbacks", tags=["callbacks"], responses=PROBLEMS)


@router.post(
    "/{token}",
    status_code=202,
    summary="Call an invocation back",
    operation_id="callBack",
    response_class=JSONResponse,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {}}, "text/plain": {"schema": {}}}}},
)
async def call_back(token: str, request: Request, context: ContextDep) -> JSONResponse:
    """Once. JSON or text, 256 KiB at most, or nothing; it is on record when this answers 202."""
    async with context.database.connection() as connection:
        callback = await callbacks.look_up(connection, token)
    if callback is None:
        await context.rejections.record(AuditEntry(kind=AuditKind.ACTION, detail={"callback": "unknown"}))
        raise NotFoundError("Nobody waits for a call of this address.")
    if callback.refusal is not None:
        raise await _refused(context, callback, callback.refusal)
    content_type = request.headers.get("content-type", "")[:200]
    content = await _content(request)
    body = _read(content, content_type)
    sealed = callbacks.seal_body(
        context.keyring, callback.invocation_id, body, content_type=content_type if content else ""
    )
    async with context.database.transaction() as connection:
        refusal = await callbacks.use(connection, callback, sealed)
        if refusal is None:
            await record(connection, _entry(callback, "accepted", size=len(content)))
    if refusal is not None:
        raise await _refused(context, callback, refusal)
    context.waker.wake_soon(callback.invocation_id)
    return JSONResponse({}, status_code=202)


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise TooLargeError(f"The body is larger than {MAX_BODY_BYTES} bytes, the limit of a callback.")
    return bytes(content)


def _read(content: bytes, content_type: str) -> object:
    if not content:
        return None
    if is_json(content_type):
        return read_json(content, content_type)
    if content_type.lower().startswith("text/"):
        return read_text(content)
    raise UnsupportedMediaTypeError("Send the body as Content-Type: application/json, or as text in UTF-8.")


async def _refused(context: Context, callback: Presented, refusal: str) -> LatchflowError:
    await context.rejections.record(_entry(callback, refusal))
    if refusal == "used":
        return ConflictError("This address was called before. What was sent then is on record.")
    return GoneError("What this address was for has ended.")


def _entry(callback: Presented, outcome: str, **detail: object) -> AuditEntry:
    """Never the token, nor what was sent."""
    return AuditEntry(
        kind=AuditKind.ACTION,
        plugin_name=callback.plugin,
        capability_key=callback.capability_key,
        trigger_definition_id=callback.trigger_id,
        trigger_event_id=callback.event_id,
        invocation_id=callback.invocation_id,
        detail={"callback": outcome, **detail},
    )
