"""`make demo`: a real GitHub delivery becomes a mail, and everything that is shown is read back from outside.

Every step is named; the first that fails is printed with its reason and makes the exit status 1.
"""

import argparse
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.markup import escape

from examples.definitions import apply
from examples.directory import directory

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = Path(__file__).resolve().parent / "github-push-to-mail"
DATA_DIR = ROOT / ".latchflow" / "demo"
READY_SECONDS = 60.0
RUN_SECONDS = 60.0
MAIL_SECONDS = 10.0
SHOWN = 90
FINAL = {"SUCCEEDED", "PARTIAL_FAILURE", "FAILED", "CANCELLED", "IGNORED"}

console = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """A step did not do what it should."""


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Name what happens, so that a failure can be told."""
    console.print(f"\n[bold cyan]{name}[/]")
    try:
        yield
    except Exception as error:
        console.print(f"[bold red]FAILED[/] at the step [bold]{name}[/]: {type(error).__name__}: {escape(str(error))}")
        raise SystemExit(1) from error


def main() -> None:
    """Run the demo."""
    arguments = _arguments()
    # Ending this program from outside must end the stack too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    with directory() as port, _stack(arguments.data_dir.resolve(), port) as ready, _api(ready) as api:
        os.environ["DEMO_DIRECTORY_URL"] = f"http://127.0.0.1:{port}/people"
        os.environ["DEMO_WEBHOOK_SECRET"] = secrets.token_hex(16)
        with step("Create the trigger, the actions and the pipeline"):
            ids = apply(api, EXAMPLE / "definitions.yaml")
            for name, identifier in ids.items():
                console.print(f"  {name:<16} {identifier}")
        if arguments.stop_worker:
            os.kill(ready["pids"]["worker"], signal.SIGSTOP)
        with step("Send a GitHub push delivery, signed"):
            secret = "not the secret" if arguments.wrong_secret else os.environ["DEMO_WEBHOOK_SECRET"]
            event_id, note = _deliver(ready["apiUrl"], ids["github-push"], secret)
        with step("Watch the run"):
            event = _watch(api, event_id)
        with step("Read the mail that came out"):
            _show_mail(_mail(ready["smtpSinkUrl"], note))
        with step("Read what Temporal recorded"):
            _show_history(api, event_id)
        with step("Read the audit trail"):
            _show_audit(api, event_id)
        console.print(f"\n[bold green]Done.[/] The event {event_id} ended {event['status']}.")
        console.print("Try it yourself: `make run`, then the README's first pipeline.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir", type=Path, default=DATA_DIR, help="a stack's own, emptied at start (default: %(default)s)"
    )
    parser.add_argument("--wrong-secret", action="store_true", help="sign with another secret: the demo must fail")
    parser.add_argument("--stop-worker", action="store_true", help="freeze the worker first: the demo must fail")
    return parser.parse_args()


@contextlib.contextmanager
def _stack(data_dir: Path, directory_port: int) -> Iterator[dict[str, Any]]:
    """`latchflow dev` on a data dir of its own, until the demo is over."""
    with tempfile.TemporaryDirectory(prefix="latchflow-demo-") as folder:
        ready_file, log = Path(folder) / "ready.json", Path(folder) / "dev.log"
        with step("Start the stack: Temporal, PostgreSQL, API, worker, SMTP sink"):
            process = _start(data_dir, ready_file, log, directory_port)
        try:
            yield _ready(process, ready_file, log)
        finally:
            _stop(process)


def _start(data_dir: Path, ready_file: Path, log: Path, directory_port: int) -> subprocess.Popen[bytes]:
    allowed = ",".join(part for part in (os.environ.get("HTTP_EGRESS_ALLOW"), f"127.0.0.1:{directory_port}") if part)
    dev = [str(Path(sys.executable).with_name("latchflow")), "dev", "--fresh", "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*dev, "--ready-file", str(ready_file)],
            cwd=ROOT,
            env={**os.environ, "HTTP_EGRESS_ALLOW": allowed},
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this program, which then asks the stack to stop; a second signal would kill it.
            start_new_session=True,
        )


def _ready(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> dict[str, Any]:
    with step("Wait until it is ready"):
        started = time.monotonic()
        _until(lambda: ready_file.exists() or process.poll() is not None, READY_SECONDS, "no ready file")
        if not ready_file.exists():
            raise DemoError("latchflow dev ended:\n" + log.read_text(errors="replace")[-2000:])
        ready: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
        console.print(f"  ready after {time.monotonic() - started:.1f} s")
        console.print(f"  API          {ready['apiUrl']}/docs")
        console.print(f"  Temporal UI  {ready['temporalUiUrl']}")
        console.print(f"  mails        {ready['smtpSinkUrl']}")
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _api(ready: dict[str, Any]) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {ready['adminToken']}"}
    with httpx2.Client(base_url=ready["apiUrl"], headers=headers, trust_env=False, timeout=10) as client:
        yield client


def _deliver(api_url: str, trigger_id: str, secret: str) -> tuple[str, str]:
    """One push of two commits, as GitHub sends it; the note makes each delivery's body its own."""
    note = str(uuid.uuid4())
    payload = json.loads((EXAMPLE / "push.json").read_text(encoding="utf-8")) | {"deliveryNote": note}
    body = json.dumps(payload).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    answer = httpx2.post(
        f"{api_url}/hooks/{trigger_id}",
        content=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": note,
            "X-GitHub-Event": "push",
            "X-Hub-Signature-256": f"sha256={signature}",
        },
        trust_env=False,
    )
    console.print(f"  POST /hooks/{trigger_id} -> {answer.status_code} {answer.text}")
    if answer.status_code != 202:
        raise DemoError(f"the delivery was answered {answer.status_code}, not 202")
    accepted = answer.json()
    if accepted["duplicate"]:
        raise DemoError("a fresh delivery was answered as a duplicate")
    return accepted["eventId"], note


def _watch(api: httpx2.Client, event_id: str) -> dict[str, Any]:
    """Print every change of the event's document until it is final."""
    shown: set[str] = set()
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        event: dict[str, Any] = _get(api, f"/admin/events/{event_id}")
        for line in _lines(event):
            if line not in shown:
                shown.add(line)
                console.print(f"  {line}")
        if event["status"] in FINAL:
            break
        if time.monotonic() > deadline:
            raise DemoError(f"the event is still {event['status']} after {RUN_SECONDS:g} s")
        time.sleep(0.05)
    if event["status"] != "SUCCEEDED":
        raise DemoError(f"the event ended {event['status']}, not SUCCEEDED")
    return event


def _lines(event: dict[str, Any]) -> Iterator[str]:
    for run in event["runs"]:
        for invocation in run["invocations"]:
            if invocation["status"] != "PENDING":
                where = f"{run['pipelineName']} / {invocation['stepName']}"
                attempts = [f"attempt {attempt['number']} on {attempt['worker']}" for attempt in invocation["attempts"]]
                yield f"{where:<24} {invocation['status']:<10} {', '.join(attempts)}"
    yield f"event {event['status']}"


def _mail(sink_url: str, note: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        messages = httpx2.get(f"{sink_url}/messages", trust_env=False).json()["items"]
        found[:] = [message for message in messages if note in (message["textBody"] or "")]
        return bool(found)

    _until(arrived, MAIL_SECONDS, "the mail did not arrive")
    if len(found) != 1:
        raise DemoError(f"{len(found)} mails arrived for one event")
    return found[0]


def _show_mail(mail: dict[str, Any]) -> None:
    console.print(f"  from {mail['mailFrom']} to {', '.join(mail['rcptTo'])}")
    console.print(f"  Subject: {mail['subject']}", markup=False)
    for line in mail["textBody"].splitlines():
        console.print(f"  | {line}", markup=False)


def _show_history(api: httpx2.Client, event_id: str) -> None:
    items = _get(api, f"/admin/events/{event_id}/history?limit=200")["items"]
    if not any(item["type"] == "WorkflowExecutionCompleted" for item in items):
        raise DemoError("Temporal's history does not end with WorkflowExecutionCompleted")
    steps = [item for item in items if item["type"] in {"ActivityTaskCompleted", "WorkflowExecutionCompleted"}]
    console.print(f"  {len(items)} entries; the results among them:")
    for item in steps:
        console.print(f"  {item['time']}  {item['type']:<26} {_result(item)}", markup=False)


def _result(item: dict[str, Any]) -> str:
    result = item["attributes"]["result"][0]
    text = json.dumps(result.get("output")) if isinstance(result, dict) else str(result)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _show_audit(api: httpx2.Client, event_id: str) -> None:
    items = _get(api, f"/admin/audit?triggerEventId={event_id}&limit=200")["items"]
    phases = [item["phase"] for item in items if item["kind"] == "action"]
    if phases.count("STARTED") != 2 or phases.count("SUCCEEDED") != 2:
        raise DemoError(f"the audit trail is not complete: {phases}")
    for item in items:
        attempt = f"attempt {item['attempt']}" if item["attempt"] else ""
        facts = {name: value for name, value in item["detail"].items() if name != "codeHash" and value}
        console.print(
            f"  {item['seq']:>3}  {item['timestamp'][11:23]}  {item['kind']:<8} {item['phase'] or '':<10}"
            f" {item['capabilityKey'] or '':<13} {attempt:<10} "
            + ", ".join(f"{name} {_plain(value)}" for name, value in facts.items()),
            markup=False,
        )


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _get(api: httpx2.Client, path: str) -> dict[str, Any]:
    answer = api.get(path)
    if answer.status_code != 200:
        raise DemoError(f"GET {path} answered {answer.status_code}: {answer.text}")
    document: dict[str, Any] = answer.json()
    return document


def _until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.05)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
