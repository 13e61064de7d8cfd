"""The action ``hand_over``: tell the carrier, then the warehouse."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from latchflow.sdk import ActionCall, EmailAddress, EmailMessage, HttpRequest, PermanentFailure, Retry


class HandOverConfig(BaseModel):
    """What an admin sets."""

    carrier_url: str = Field(alias="carrierUrl", pattern="^https?://")
    warehouse: str
    api_key: str | None = Field(None, alias="apiKey", json_schema_extra={"writeOnly": True})


async def hand_over(call: ActionCall[HandOverConfig]) -> dict[str, Any]:
    """Return the output, or raise: core records what came of it."""
    order_id = call.payload.get("orderId")
    if not isinstance(order_id, str):
        raise PermanentFailure("The step's input brings no orderId.", error_type="MissingOrder")
    call.heartbeat({"at": "carrier"})
    answer = await call.services.http.request(
        HttpRequest(
            method="POST",
            url=call.config.carrier_url,
            headers={"Idempotency-Key": call.idempotency_key},
            secret_headers={"Authorization": f"Bearer {call.secrets.get('apiKey', '')}"},
            json={"orderId": order_id},
            is_repeatable=True,
        )
    )
    if answer.status == 429 or answer.status >= 500:
        raise Retry(after=timedelta(seconds=2), reason=f"The carrier answered {answer.status}.")
    if answer.status >= 400:
        raise PermanentFailure(f"The carrier answered {answer.status}.", error_type="CarrierRefused")
    call.logger.info("order handed over", order_id=order_id)
    await call.services.email.send(
        EmailMessage(
            to=[EmailAddress(address=call.config.warehouse)],
            subject=f"Order {order_id}",
            text_body="The carrier comes for it today.",
        )
    )
    return {"orderId": order_id, "carrierStatus": answer.status}
