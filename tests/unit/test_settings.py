import pytest

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("https://latch.example", "https://latch.example"),
        ("http://10.0.0.1:8080/", "http://10.0.0.1:8080"),
        ("https://latch.example/app/", "https://latch.example/app"),
    ],
)
def test_a_public_url_is_kept_without_its_last_slash(monkeypatch: pytest.MonkeyPatch, given: str, kept: str) -> None:
    monkeypatch.setenv("LATCHFLOW_PUBLIC_URL", given)

    assert Settings.load().public_url == kept


@pytest.mark.parametrize(
    "given",
    [
        "latch.example",
        "ftp://latch.example",
        "https://",
        "https://latch.example/?next=x",
        "https://latch.example/#top",
        "https://ada:secret@latch.example",
        "https://latch.example/a b",
        "https://latch.example/\u202e",
        "javascript:alert(1)",
        "https://[::1",
    ],
)
def test_a_public_url_that_would_make_bad_links_is_refused_by_name_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("LATCHFLOW_PUBLIC_URL", given)

    with pytest.raises(ConfigurationError, match="LATCHFLOW_PUBLIC_URL") as caught:
        Settings.load()
    assert "secret" not in caught.value.message
    assert "latch.example" not in caught.value.message
