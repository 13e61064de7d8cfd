"""A mail as Gmail takes it: the message of RFC 5322, with the blind copies that Gmail itself takes out."""

from email.headerregistry import Address
from email.message import EmailMessage as MimeMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime

from latchflow.sdk import EmailAddress, EmailDelivery

_POLICY = SMTP.clone(cte_type="7bit")


def written(delivery: EmailDelivery, default_sender: str) -> bytes:
    """The message; core has checked its addresses, headers and attachments.

    Raises:
        ValueError: Something in it cannot be written.
    """
    message = delivery.message
    mime = MimeMessage(policy=_POLICY)
    mime["From"] = _mailbox(message.sender or EmailAddress(address=default_sender))
    for name, addresses in (("To", message.to), ("Cc", message.cc), ("Bcc", message.bcc)):
        if addresses:
            mime[name] = [_mailbox(address) for address in addresses]
    if message.reply_to is not None:
        mime["Reply-To"] = _mailbox(message.reply_to)
    mime["Subject"] = message.subject
    mime["Date"] = format_datetime(localtime())
    mime["Message-ID"] = delivery.message_id
    for name, value in message.headers.items():
        mime[name] = value
    if message.text_body is not None or message.html_body is None:
        mime.set_content(message.text_body or "")
        if message.html_body is not None:
            mime.add_alternative(message.html_body, subtype="html")
    else:
        mime.set_content(message.html_body, subtype="html")
    for attachment in message.attachments:
        main_type, _, subtype = attachment.content_type.partition("/")
        mime.add_attachment(attachment.content, maintype=main_type, subtype=subtype, filename=attachment.name)
    return mime.as_bytes()


def _mailbox(address: EmailAddress) -> Address:
    return Address(display_name=address.display_name or "", addr_spec=address.address)
