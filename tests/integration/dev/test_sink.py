import email.message
import os
from collections.abc import Callable
from pathlib import Path

import aiosmtplib
import httpx2

from latchflow.dev.mailbox import Mail
from latchflow.dev.sink import Sink, run_sink


def _mail(subject: str) -> email.message.EmailMessage:
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", subject
    message.set_content("Grüße <b>")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    return message


async def _send(sink: Sink, message: email.message.EmailMessage) -> None:
    host, port = sink.smtp_address.split(":")
    await aiosmtplib.send(message, hostname=host, port=int(port), start_tls=False, use_tls=False)


async def _items(sink: Sink) -> list[dict[str, object]]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        items: list[dict[str, object]] = (await http.get(f"{sink.http_url}/messages")).json()["items"]
        return items


async def test_a_mail_that_was_sent_is_shown_over_http(tmp_path: Path) -> None:
    told: list[Mail] = []
    on_mail: Callable[[Mail], None] = told.append
    async with run_sink(tmp_path, on_mail) as sink, httpx2.AsyncClient(trust_env=False) as http:
        await _send(sink, _mail("Ünited <i>"))

        [item] = await _items(sink)
        page = (await http.get(sink.http_url)).text
        raw = await http.get(f"{sink.http_url}/messages/{item['id']}/raw")
        missing = await http.get(f"{sink.http_url}/messages/none/raw")

    assert item["subject"] == "Ünited <i>"
    assert item["mailFrom"] == "a@example.org"
    assert item["rcptTo"] == ["b@example.org"]
    assert item["textBody"] == "Grüße <b>\n"
    assert item["htmlBody"] == "<p>Grüße</p>\n"
    assert str(item["receivedAt"]).endswith("Z")
    assert "Ünited &lt;i&gt;" in page
    assert raw.text.startswith("From: a@example.org")
    assert missing.status_code == 404
    assert [mail.envelope.id for mail in told] == [item["id"]]


async def test_mails_stay_over_a_restart_until_they_are_deleted(tmp_path: Path) -> None:
    async with run_sink(tmp_path, lambda mail: None) as sink:
        await _send(sink, _mail("first"))
        await _send(sink, _mail("second"))

    async with run_sink(tmp_path, lambda mail: None) as sink, httpx2.AsyncClient(trust_env=False) as http:
        subjects = [item["subject"] for item in await _items(sink)]
        await http.delete(f"{sink.http_url}/messages")
        left = await _items(sink)

    assert subjects == ["first", "second"]
    assert left == []
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_a_page_under_a_foreign_name_is_turned_away(tmp_path: Path) -> None:
    async with run_sink(tmp_path, lambda mail: None) as sink, httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{sink.http_url}/messages", headers={"Host": "evil.example"})

    assert answer.status_code == 400
