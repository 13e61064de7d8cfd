"""The programs of a deployment of one's own, started beside a stack whose database and Temporal they use."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.e2e.stack import ROOT, Stack


@contextmanager
def program(stack: Stack, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    secrets = json.loads((stack.dev.data_dir / "secrets.json").read_text())
    settings = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": stack.ready["databaseUrl"],
        "ENCRYPTION_KEY": secrets["encryption_key"],
        "TEMPORAL_ADDRESS": stack.ready["temporalAddress"],
        "LATCHFLOW_API_PORT": "0",
    }
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=settings | environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_api_says_where_it_listens_and_ends_with_0_when_it_is_told_to(stack: Stack, number: signal.Signals) -> None:
    with program(stack, "-m", "api") as process:
        assert process.stderr is not None
        lines = (json.loads(line) for line in process.stderr)
        ready = next(line for line in lines if line["event"] == "api ready")
        answer = httpx2.get(f"{ready['url']}/healthz", trust_env=False)
        process.send_signal(number)

        assert process.wait(20) == 0
    assert answer.status_code == 200


@pytest.mark.parametrize("arguments", [("-m", "api"), ("worker.py",)])
def test_a_namespace_that_temporal_does_not_have_is_one_line(stack: Stack, arguments: tuple[str, ...]) -> None:
    with program(stack, *arguments, TEMPORAL_NAMESPACE="nope") as process:
        _, errors = process.communicate(timeout=60)

    (line,) = (line for line in errors.splitlines() if not line.startswith("{"))
    assert process.returncode == 1
    assert line.startswith("latchflow: Temporal refuses the namespace 'nope': Namespace nope is not found. Start it")
