import pytest

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings
from latchflow.store.database import Database
from latchflow.store.database_urls import read_database_url
from latchflow.store.migrate import upgrade

MALFORMED = [
    "hunter2",
    "app:hunter2@host/db",
    "postgresql://app:hunter2@[",
    "postgresql://app:%zhunter2@host/db",
    "postgresql://app:p@hunter2@host/db",
    "postgresql://app:hunter2/rest@host/db",
]
GOOD = "postgresql://app:hunter2@127.0.0.1:1/db"


@pytest.mark.parametrize("url", MALFORMED)
async def test_a_malformed_url_is_named_by_its_setting_and_never_quoted(url: str) -> None:
    settings = [
        Settings.model_validate({"DATABASE_URL": url, "DATABASE_MIGRATION_URL": GOOD}),
        Settings.model_validate({"DATABASE_URL": GOOD, "DATABASE_MIGRATION_URL": url}),
    ]

    with pytest.raises(ConfigurationError, match="DATABASE_URL is no") as opening:
        await Database.open(settings[0]).__aenter__()
    with pytest.raises(ConfigurationError, match="DATABASE_URL is no") as granting:
        upgrade(settings[0])
    with pytest.raises(ConfigurationError, match="DATABASE_MIGRATION_URL is no") as migrating:
        upgrade(settings[1])

    assert "hunter2" not in f"{opening.value} {granting.value} {migrating.value}"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://app:p%40ss@db.example:5432/latchflow", "db.example"),
        ("postgresql://app@[::1]/latchflow?sslmode=require", "::1"),
        ("postgresql://app@one:1,two:2/latchflow", "one,two"),
        ("host=/run/postgresql user=app", "/run/postgresql"),
    ],
)
def test_every_form_that_the_client_library_takes_is_taken(url: str, host: str) -> None:
    parts = read_database_url(url, "DATABASE_URL")

    assert (parts["user"], parts["host"]) == ("app", host)
