"""The mails that the sink caught: the newest ones, kept as ``.eml`` files."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from latchflow.dev.mail_document import describe_mail
from latchflow.dev.private_file import write_private_bytes

_MAX_MAILS = 1000
_MAX_BYTES = 256 * 1024 * 1024
# Sender and recipients of the SMTP dialogue are not in the mail; they stand in one line of their own above it.
_ENVELOPE_HEADER = b"X-Latchflow-Envelope: "


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What the SMTP dialogue said about a mail."""

    id: str
    received_at: str
    mail_from: str
    rcpt_to: list[str]


class Mail:
    """One mail that was caught."""

    def __init__(self, path: Path, envelope: Envelope, size: int) -> None:
        self.path = path
        self.envelope = envelope
        self.size = size

    @property
    def raw(self) -> bytes:
        """The mail as it was received."""
        return self.path.read_bytes().partition(b"\r\n")[2]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The mail as JSON."""
        envelope = self.envelope
        return {
            "id": envelope.id,
            "receivedAt": envelope.received_at,
            "mailFrom": envelope.mail_from,
            "rcptTo": envelope.rcpt_to,
            **describe_mail(self.raw),
        }


class Mailbox:
    """The newest mails, oldest first; those beyond the limit are deleted.

    Args:
        folder: Where they are; what it holds already is taken in.
        max_mails: How many are kept.
    """

    def __init__(self, folder: Path, *, max_mails: int = _MAX_MAILS) -> None:
        self._folder = folder
        self._max_mails = max_mails
        self._mails: deque[Mail] = deque()
        self._size = 0
        for path in sorted(folder.glob("*.eml")):
            mail = _read(path)
            if mail is not None:
                self._keep(mail)

    def __iter__(self) -> Iterator[Mail]:
        return iter(tuple(self._mails))

    def documents(self) -> list[dict[str, Any]]:
        """All mails as JSON; may run in another thread than the one that takes mails in."""
        found = []
        for mail in self:
            with suppress(FileNotFoundError):  # Deleted since the list was taken.
                found.append(mail.document)
        return found

    def find(self, mail_id: str) -> Mail | None:
        """The mail of that id."""
        return next((mail for mail in self._mails if mail.envelope.id == mail_id), None)

    def add(self, content: bytes, *, mail_from: str, rcpt_to: list[str]) -> Mail:
        """Take in a mail; it is on the disk when this returns."""
        now = datetime.now(UTC)
        received_at = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
        envelope = Envelope(id=str(uuid4()), received_at=received_at, mail_from=mail_from, rcpt_to=rcpt_to)
        path = self._folder / f"{now:%Y%m%dT%H%M%S.%f}Z-{envelope.id}.eml"
        data = _ENVELOPE_HEADER + json.dumps(asdict(envelope)).encode() + b"\r\n" + content
        write_private_bytes(path, data)
        mail = Mail(path, envelope, len(data))
        self._keep(mail)
        return mail

    def clear(self) -> None:
        """Delete all."""
        while self._mails:
            self._drop_oldest()

    def _keep(self, mail: Mail) -> None:
        self._mails.append(mail)
        self._size += mail.size
        while len(self._mails) > self._max_mails or (self._size > _MAX_BYTES and len(self._mails) > 1):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        mail = self._mails.popleft()
        self._size -= mail.size
        mail.path.unlink(missing_ok=True)


def _read(path: Path) -> Mail | None:
    with path.open("rb") as file:
        line = file.readline()
    try:
        fields = json.loads(line.removeprefix(_ENVELOPE_HEADER))
        return Mail(path, Envelope(**fields), path.stat().st_size)
    except (ValueError, TypeError):
        return None  # Not one of ours; leave it alone.
