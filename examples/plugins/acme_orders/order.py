"""The trigger ``order``: one event per order that the shop sends."""

import hmac
import json

from pydantic import BaseModel, Field

from latchflow.sdk import Emit, InboundRequest, Reject


class OrderConfig(BaseModel):
    """What an admin sets; ``writeOnly`` makes the field a secret."""

    token: str | None = Field(None, min_length=8, json_schema_extra={"writeOnly": True})


def order(request: InboundRequest, config: OrderConfig) -> Emit | Reject:
    """Verify first, read afterwards; nothing has been created when this runs."""
    expected = str(request.secrets.get("token", ""))
    given = request.headers.get("x-shop-token", "")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        return Reject(status=401, reason="The header X-Shop-Token is missing or wrong.")
    try:
        body = json.loads(request.body)
        order_id = str(body["id"])
    except (ValueError, KeyError, TypeError):
        return Reject(status=400, reason="Send a JSON object with an id.")
    return Emit(context={"order": body}, metadata={"orderId": order_id}, key=order_id)
