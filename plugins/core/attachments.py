"""The files of a mail, out of bundles."""

import mimetypes
from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from latchflow.sdk import MAX_ATTACHMENT_BYTES, EmailAttachment, PermanentFailure, StorageService

from .config import ActionConfig

FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f\x7f]+$", max_length=255)]


class Attachment(ActionConfig):
    """An object of a bundle."""

    bundle_id: UUID
    path: str = Field(min_length=1, max_length=1024)
    name: FileName | None = Field(None, description="What the receiver sees. Default: the last part of the path.")


async def read_attachments(storage: StorageService, wanted: Iterable[Attachment]) -> list[EmailAttachment]:
    """Read the files.

    Raises:
        PermanentFailure: Together they are too large; no more than that is read.
    """
    left = MAX_ATTACHMENT_BYTES
    files: list[EmailAttachment] = []
    for attachment in wanted:
        content = bytearray()
        async for chunk in storage.get(attachment.bundle_id, attachment.path):
            content += chunk
            if len(content) > left:
                limit = f"{MAX_ATTACHMENT_BYTES // 1024**2} MiB"
                raise PermanentFailure(
                    f"The attachments are larger than {limit} together. Publish a link instead.",
                    error_type="AttachmentsTooLarge",
                )
        left -= len(content)
        name = attachment.name or attachment.path.rpartition("/")[2]
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        files.append(EmailAttachment(name=name, content=bytes(content), content_type=content_type))
    return files
