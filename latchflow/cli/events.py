"""``latchflow events``: what fired, how it goes, and mending it."""

import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

events = typer.Typer(help="Look at events, cancel them, run them again.", no_args_is_help=True)

_COLUMNS = ("id", "trigger", "status", "fired", "closed")
_POLL_SECONDS = 0.5
_OPEN = frozenset({"PENDING", "RUNNING"})

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="The id of the event.")]
IsJson = Annotated[bool, typer.Option("--json", help="The document of the API.")]


@events.command("list")
def list_events(
    trigger: Annotated[str | None, typer.Option(help="The id or the name of a trigger.")] = None,
    status: Annotated[str | None, typer.Option(help="For example FAILED.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Events at most.")] = 20,
    is_json: IsJson = False,
) -> None:
    """List events, the newest first."""
    server = _server()
    path = "/admin/events" if trigger is None else f"/admin/triggers/{_trigger_id(server, trigger)}/events"
    query = {} if status is None else {"status": status.upper()}
    found = list(islice(server.items(path, **query), limit))
    if is_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    elif sys.stdout.isatty():
        _print_table(_COLUMNS, [_row(event) for event in found])
    else:
        for event in found:
            sys.stdout.write("\t".join(_row(event)) + "\n")


@events.command("show")
def show(event: EventId, is_json: IsJson = False) -> None:
    """Show one event with its runs and steps."""
    document = _server().get(f"/admin/events/{event}")
    if is_json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    for line in _lines(document):
        sys.stdout.write(line + "\n")


@events.command("watch")
def watch(event: EventId) -> None:
    """Say what changes of an event until it ends; exit status 1 unless it succeeded."""
    server = _server()
    said: set[str] = set()
    while True:
        document = server.get(f"/admin/events/{event}")
        for line in _lines(document):
            if line not in said:
                said.add(line)
                sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if document["status"] not in _OPEN:
            raise typer.Exit(0 if document["status"] in ("SUCCEEDED", "IGNORED") else 1)
        time.sleep(_POLL_SECONDS)


@events.command("cancel")
def cancel(
    event: EventId, run: Annotated[str | None, typer.Option(help="The id of a run: cancel it alone.")] = None
) -> None:
    """Cancel an event, or one run of it."""
    below = f"/runs/{run}" if run else ""
    _server().call("POST", f"/admin/events/{event}{below}/cancel")
    sys.stdout.write(f"{run or event} is being cancelled\n")


@events.command("rerun")
def rerun(
    event: EventId,
    start: Annotated[
        str, typer.Option("--from", help="start, failed, or the name of a step; what succeeded before is kept.")
    ] = "start",
    pipeline: Annotated[str | None, typer.Option(help="The id of the pipeline that the step is of.")] = None,
    definitions: Annotated[str, typer.Option(help="now or then: those of today, or those the event had.")] = "now",
) -> None:
    """Run an event again as a new one, and print its id."""
    begin: Any = {"pipelineId": pipeline, "step": start} if pipeline else start
    body = {"from": begin, "definitions": definitions}
    opened = _server().call("POST", f"/admin/events/{event}/rerun", body)
    sys.stdout.write(f"{opened['eventId']}\n")


def _server() -> Any:
    from latchflow.cli.server import Server

    return Server.of(Settings.load())


def _trigger_id(server: Any, trigger: str) -> str:
    for found in server.items("/admin/triggers"):
        if trigger in (found["id"], found["name"]):
            return str(found["id"])
    raise ConfigurationError(f"There is no trigger {trigger!r}. Name it by its id or its name.")


def _row(event: dict[str, Any]) -> list[str]:
    return [event["id"], event["triggerName"], event["status"], event["firedAt"], event["closedAt"] or ""]


def _lines(event: dict[str, Any]) -> Iterator[str]:
    """What there is to say, a line for each thing: what has changed is a line that was not there before."""
    origin = f", repeats {event['rerunOf']}" if event["rerunOf"] else ""
    yield f"event {event['id']} of {event['triggerName']}: {event['status']}{origin}"
    for run in event["runs"]:
        yield f"  {run['pipelineName']}: {run['status']}"
        for invocation in run["invocations"]:
            index = "" if invocation["index"] is None else f"[{invocation['index']}]"
            attempts = invocation["attempts"]
            tried = f", attempt {attempts[-1]['number']}" if attempts else ""
            error = attempts[-1]["error"] if attempts else invocation.get("error")
            why = f": {' '.join(error['message'].split())}" if error else ""
            skipped = f" ({invocation['skippedReason']})" if invocation["skippedReason"] else ""
            yield f"    {invocation['stepName']}{index}: {invocation['status']}{tried}{skipped}{why}"


def _print_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # What is cut cannot be copied: an id keeps its line, the others are folded.
    table = Table(
        Column(columns[0], no_wrap=True, overflow="fold", min_width=36),
        *(Column(name, overflow="fold") for name in columns[1:]),
    )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
