"""The suite finds what it is for: each plugin here does one thing wrong, and is told so."""

from pathlib import Path

import pytest

from latchflow.testing.conformance import Verdict, check_plugin

_HEAD = """
import asyncio, logging, time
from datetime import timedelta
from pydantic import BaseModel, Field
from latchflow.sdk import EmailAddress, EmailMessage, Emit, HttpRequest, Pending, PermanentFailure, Plugin, Retry

class Config(BaseModel):
    token: str | None = Field(None, json_schema_extra={"writeOnly": True})

plugin = Plugin()
SEEN: list[str] = []
COUNT = 0
GET = HttpRequest(method="GET", url="https://example.org")
MAIL = EmailMessage(to=[EmailAddress(address="a@example.org")], subject="s")
"""
_ACTION = '@plugin.action("act", display_name="Act", config_schema=Config, scopes=["email:send"])\n'
_TRIGGER = '@plugin.inbound_trigger("come", display_name="Come", config_schema=Config)\n'
_CASE = '[[actions]]\nkey = "act"\nconfig = { token = "canary-5c1f09" }\n'

MISBEHAVING = {
    "blocks its loop": ("async def act(call):\n    time.sleep(0.9)\n", "keeps its loop free", "__init__.py:"),
    "swallows its cancellation": (
        "async def act(call):\n    while True:\n        try:\n            await call.services.http.request(GET)\n"
        "            return\n        except BaseException:\n            await asyncio.sleep(0.01)\n",
        "ends when it is cancelled",
        "CancelledError",
    ),
    "logs a secret": (
        "async def act(call):\n    call.logger.info('calling', token=call.secrets['token'])\n",
        "keeps its secrets",
        "call.logger",
    ),
    "logs a secret by itself": (
        "async def act(call):\n    logging.getLogger('x').warning('with %s', call.secrets['token'])\n",
        "keeps its secrets",
        "prints or logs by itself",
    ),
    "prints a secret in base64": (
        "import base64\nasync def act(call):\n    print(base64.b64encode(call.secrets['token'].encode()))\n",
        "keeps its secrets",
        "prints or logs by itself",
    ),
    "puts a secret into an error": (
        "async def act(call):\n    await call.services.http.request(GET)\n    raise Retry(reason='bad ' + call.secrets['token'])\n",
        "keeps its secrets",
        "the text of its error",
    ),
    "puts a secret into the error of a failed service": (
        "async def act(call):\n    try:\n        await call.services.http.request(GET)\n    except Exception:\n"
        "        raise PermanentFailure(f\"with {call.secrets['token']}\")\n",
        "keeps its secrets",
        "the text of its error",
    ),
    "reports a secret as progress": (
        "async def act(call):\n    call.heartbeat({'at': [call.secrets['token']]})\n",
        "keeps its secrets",
        "the progress",
    ),
    "returns what cannot be written": (
        "async def act(call):\n    return object()\n",
        "returns what can be stored",
        "JSON",
    ),
    "returns too much": ("async def act(call):\n    return 'x' * 5_000_000\n", "returns what can be stored", "bytes"),
    "returns not a number": (
        "async def act(call):\n    return float('nan')\n",
        "returns what can be stored",
        "JSON",
    ),
    "keeps what it saw": ("async def act(call):\n    SEEN.append('x')\n", "changes no module", "SEEN"),
    "counts its calls": (
        "async def act(call):\n    global COUNT\n    COUNT += 1\n",
        "changes no module",
        "COUNT",
    ),
    "keeps something in its class": (
        "class Act:\n    seen = {}\n    async def execute(self, call):\n        self.seen[time.time_ns()] = 1\n",
        "changes no module",
        "Act.seen",
    ),
    "calls something else each time": (
        "async def act(call):\n    SEEN.append('x')\n    if len(SEEN) % 2:\n        await call.services.email.send(MAIL)\n",
        "makes the same calls in every attempt",
        "same order",
    ),
    "breaks when a service fails": (
        "async def act(call):\n    try:\n        answer = await call.services.http.request(GET)\n    except Exception:\n"
        "        answer = None\n    return answer.status\n",
        "stands services that fail",
        "AttributeError",
    ),
    "swallows its cancellation in a thread": (
        "def act(call):\n    until = time.monotonic() + 6\n    while time.monotonic() < until:\n        try:\n"
        "            time.sleep(0.01)\n            call.wait(call.services.http.request(GET))\n            return\n"
        "        except BaseException:\n            pass\n",
        "ends when it is cancelled",
        "CancelledError",
    ),
    "blocks its loop when it resumes": (
        "class Act:\n    async def execute(self, call):\n        return Pending(check_after=timedelta(seconds=1))\n"
        "    async def resume(self, call, state):\n        time.sleep(0.9)\n",
        "keeps its loop free",
        "__init__.py:",
    ),
    "returns what cannot be written when it resumes": (
        "class Act:\n    async def execute(self, call):\n        return Pending(check_after=timedelta(seconds=1))\n"
        "    async def resume(self, call, state):\n        return object()\n",
        "returns what can be stored",
        "JSON",
    ),
    "blocks its loop when a service fails": (
        "async def act(call):\n    try:\n        await call.services.http.request(GET)\n    except Exception:\n        time.sleep(0.9)\n",
        "keeps its loop free",
        "__init__.py:",
    ),
    "keeps something in a queue": (
        "import queue\nLATER = queue.Queue()\nasync def act(call):\n    LATER.put(1)\n",
        "changes no module",
        "LATER",
    ),
    "caches what it saw": (
        "import functools\n@functools.lru_cache\ndef seen(what):\n    return what\nasync def act(call):\n    seen(call.invocation.id)\n",
        "changes no module",
        "seen",
    ),
    "fails": ("async def act(call):\n    raise PermanentFailure('no')\n", "ends in success", "no"),
}


def _write(folder: Path, code: str, cases: str, *, scopes: str = '"email:send"') -> Path:
    (folder / "tests").mkdir()
    toml = f'name = "acme-misbehaving"\nversion = "1.0.0"\nsdk = ">=1,<2"\nscopes = [{scopes}]\n'
    (folder / "plugin.toml").write_text(toml)
    (folder / "__init__.py").write_text(_HEAD + code)
    (folder / "tests" / "cases.toml").write_text(cases)
    return folder


def _faults(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.check: verdict.fault for verdict in verdicts if verdict.fault is not None}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_plugin_is_told_what_it_does_wrong(name: str, tmp_path: Path) -> None:
    code, check, part = MISBEHAVING[name]
    markers = ("class Act", "async def act", "def act")
    head, marker, rest = code.partition(next(marker for marker in markers if marker in code))

    report = check_plugin(_write(tmp_path, head + _ACTION + marker + rest, _CASE))

    faults = _faults(report.faults)
    assert check in faults
    assert part in faults[check]


def test_one_that_does_nothing_wrong_is_told_nothing(tmp_path: Path) -> None:
    code = (
        _ACTION + "async def act(call):\n    call.heartbeat(1)\n    await call.services.email.send(MAIL)\n"
        "    return {'n': (await call.services.http.request(GET)).status}\n"
    )

    assert check_plugin(_write(tmp_path, code, _CASE)).faults == []


@pytest.mark.parametrize(
    ("code", "check", "part"),
    [
        ("def come(request, config):\n    return 7\n", "ends in emit", "int"),
        (
            "async def come(request, config):\n    time.sleep(0.9)\n    return Emit(context={})\n",
            "keeps its loop free",
            ":",
        ),
        (
            "def come(request, config):\n    SEEN.append('x')\n    return Emit(context={})\n",
            "changes no module",
            "SEEN",
        ),
        (
            "def come(request, config):\n    print(request.secrets['token'])\n    return Emit(context={})\n",
            "keeps its secrets",
            "prints",
        ),
        (
            "def come(request, config):\n    return Emit(context={'n': request.body[0]})\n",
            "stands an empty body",
            "IndexError",
        ),
    ],
)
def test_a_trigger_is_told_what_it_does_wrong(code: str, check: str, part: str, tmp_path: Path) -> None:
    cases = '[[inbound]]\nkey = "come"\nbody = "x"\nconfig = { token = "canary-5c1f09" }\n'

    report = check_plugin(_write(tmp_path, _TRIGGER + code, cases))

    assert part in _faults(report.faults)[check]


@pytest.mark.parametrize(
    ("cases", "part"),
    [
        ("", "no case"),
        ('[[actions]]\nkey = "other"\n', "no action 'other'"),
        ('[[actions]]\nname = "act"\n', "actions.0.key"),
        ("[[actions]\n", "cases.toml"),
        ('[[actions]]\nkey = "act"\nconfig = { token = 7 }\n', "/config/token"),
        ('[[actions]]\nkey = "act"\nconfig = { token = "short" }\n', "under 8 characters"),
    ],
)
def test_a_file_of_cases_that_cannot_be_used_is_named(cases: str, part: str, tmp_path: Path) -> None:
    report = check_plugin(_write(tmp_path, _ACTION + "async def act(call):\n    return 1\n", cases))

    assert part in " ".join(verdict.fault or "" for verdict in report.faults)


def test_a_broken_contract_is_the_only_verdict(tmp_path: Path) -> None:
    report = check_plugin(_write(tmp_path, _ACTION + "async def act():\n    return 1\n", _CASE))

    (verdict,) = report.verdicts
    assert "must take (call)" in (verdict.fault or "")


def test_an_undeclared_scope_is_refused_before_anything_runs(tmp_path: Path) -> None:
    report = check_plugin(_write(tmp_path, _ACTION + "async def act(call):\n    return 1\n", _CASE, scopes=""))

    assert "email:send" in (report.faults[0].fault or "")
