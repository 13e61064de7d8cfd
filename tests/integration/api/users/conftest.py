"""An API that can send mails, to a real mail server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from latchflow.key_material import new_encryption_key
from latchflow.settings import Settings
from tests.integration.api.users.inviting import PUBLIC
from tests.support.api import BOOTSTRAP_TOKEN
from tests.support.mailbox import Mailbox, running_mailbox
from tests.support.postgres import TestDatabase


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def settings(database: TestDatabase, tmp_path: Path, mailbox: Mailbox) -> Settings:
    return Settings.model_validate(
        {
            "DATABASE_URL": database.url,
            "ENCRYPTION_KEY": new_encryption_key(),
            "LATCHFLOW_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
            "LATCHFLOW_HOME": tmp_path,
            "LATCHFLOW_PUBLIC_URL": PUBLIC + "/",
            "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
            "SMTP_FROM": "latchflow@example.org",
            "HTTP_EGRESS_ALLOW": "127.0.0.1",
        }
    )
