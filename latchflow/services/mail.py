"""Mail for plugins: through whoever delivers it."""

from datetime import datetime

from latchflow.sdk import EmailMessage, SendResult, ServiceError
from latchflow.services.email import SmtpEmail
from latchflow.services.handover import Handover

_SMTP = "smtp"


class Mail:
    """Sends by SMTP."""

    def __init__(self, smtp: SmtpEmail) -> None:
        self._smtp = smtp

    async def send(self, message: EmailMessage, *, effect: Handover, deadline: datetime) -> SendResult:
        """Send one mail. Raises as `latchflow.sdk.EmailService.send`."""
        await effect.via(_SMTP)
        return await self._smtp.send(message, idempotency_key=effect.key)

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        """What became of a mail.

        Raises:
            ServiceError: ``outcome_unknown``: SMTP cannot be asked.
        """
        raise ServiceError("outcome_unknown", "The mail may or may not have been sent; SMTP cannot be asked.")
