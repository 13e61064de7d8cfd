"""``latchflow plugins`` against a real server in a thread."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from api.app import create_app
from latchflow.cli.app import app as cli
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN
from tests.unit.runtime.plugin_folders import write_plugin


@pytest.fixture
def server(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an API that finds one plugin."""
    write_plugin(tmp_path / "plugins", name="acme-greeter")
    settings = settings.model_copy(update={"plugin_cache_dir": tmp_path / "copies"})
    running = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.05)
    host, port = running.servers[0].sockets[0].getsockname()
    monkeypatch.setenv("LATCHFLOW_API_URL", f"http://{host}:{port}")
    monkeypatch.setenv("LATCHFLOW_TOKEN", BOOTSTRAP_TOKEN)
    yield f"http://{host}:{port}"
    running.should_exit = True
    thread.join()


def run(*arguments: str) -> str:
    """What the verb prints, in a process of its own: the server's log goes elsewhere."""
    command = [sys.executable, "-m", "latchflow.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def test_a_plugin_is_listed_enabled_with_its_scopes_and_listed_again(server: str) -> None:
    before = run("plugins", "list")
    ungranted = run("plugins", "enable", "acme-greeter")
    enabled = run("plugins", "enable", "acme-greeter", "--grant", "email:send")
    after = json.loads(run("plugins", "list", "--json"))

    assert before == "acme-greeter\t1.0.0\tDISCOVERED\t\t\t\n"
    assert "declares these scopes: email:send" in ungranted
    assert enabled == "acme-greeter 1.0.0 is ENABLED\ngranted: email:send\n"
    assert [(one["status"], one["grantedScopes"]) for one in after] == [("ENABLED", ["email:send"])]


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["plugins", "enable", "acme-greter", "--grant-all"], "no plugin named 'acme-greter'"),
        (["plugins", "enable", "acme-greeter", "--grant", "storage:read"], "/grantedScopes/0"),
    ],
)
def test_what_the_server_refuses_is_said_in_its_words(server: str, arguments: list[str], quoted: str) -> None:
    with pytest.raises(ConfigurationError, match=quoted):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_without_a_server_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATCHFLOW_HOME", str(tmp_path))
    (tmp_path / "worker.py").touch()
    with pytest.raises(ConfigurationError, match="LATCHFLOW_API_URL and LATCHFLOW_TOKEN"):
        CliRunner().invoke(cli, ["plugins", "list"], catch_exceptions=False)

    monkeypatch.setenv("LATCHFLOW_API_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="LATCHFLOW_TOKEN is not set"):
        CliRunner().invoke(cli, ["plugins", "list"], catch_exceptions=False)
    monkeypatch.setenv("LATCHFLOW_TOKEN", BOOTSTRAP_TOKEN)
    with pytest.raises(ConfigurationError, match="does not answer"):
        CliRunner().invoke(cli, ["plugins", "list"], catch_exceptions=False)
