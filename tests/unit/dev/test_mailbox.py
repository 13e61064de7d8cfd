from pathlib import Path

import pytest

from latchflow.dev.mail_document import describe_mail
from latchflow.dev.mailbox import Mailbox


def _add(mailbox: Mailbox, subject: str) -> None:
    mailbox.add(f"Subject: {subject}\r\n\r\nHello\r\n".encode(), mail_from="a@x", rcpt_to=["b@x", "c@x"])


def test_only_the_newest_mails_are_kept_in_memory_and_on_disk(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, max_mails=2)

    for subject in ("one", "two", "three"):
        _add(mailbox, subject)

    assert [document["subject"] for document in mailbox.documents()] == ["two", "three"]
    assert len(list(tmp_path.glob("*.eml"))) == 2


def test_a_mailbox_opened_again_shows_the_same_documents(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    _add(mailbox, "one")
    _add(mailbox, "two")

    assert Mailbox(tmp_path).documents() == mailbox.documents()


def test_the_raw_mail_is_what_was_received(tmp_path: Path) -> None:
    mail = Mailbox(tmp_path).add(b"Subject: x\r\n\r\nbody\n", mail_from="", rcpt_to=["b@x"])

    assert mail.raw == b"Subject: x\r\n\r\nbody\n"


def test_a_foreign_file_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "mine.eml"
    foreign.write_text("Subject: mine\n\nbody")

    mailbox = Mailbox(tmp_path)
    mailbox.clear()

    assert foreign.exists()
    assert mailbox.documents() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe",
        b"no header at all",
        b"Subject: =?bad?q?x?=\r\nTo: <<>>,,@\r\nMessage-ID: [\r\nDate: never\r\n\r\nx",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\nx",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
    ],
)
def test_a_malformed_mail_still_has_a_document(raw: bytes) -> None:
    document = describe_mail(raw)

    assert set(document) == {"subject", "headers", "textBody", "htmlBody"}


def test_a_header_that_begins_on_a_line_of_its_own_has_no_space_before_it() -> None:
    identifier = f"<{'a' * 70}@example.org>"

    document = describe_mail(f"Message-ID:\r\n {identifier}\r\nX-Long:\r\n one\r\n two \r\n\r\n".encode())

    assert document["headers"] == {"Message-ID": identifier, "X-Long": "one two"}


def test_several_headers_of_one_name_are_all_shown() -> None:
    document = describe_mail(b"Received: one\r\nReceived: two\r\n\r\n")

    assert document["headers"] == {"Received": "one\ntwo"}
