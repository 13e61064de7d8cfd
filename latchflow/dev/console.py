"""What the operator of a stack sees."""

import os
import sys

from rich.console import Console
from rich.table import Table

from latchflow.dev.mailbox import Mail
from latchflow.dev.ready import StackAddresses

_NAME_WIDTH = 9


class StackConsole:
    """Lines on the terminal; a terminal that went away stops nothing."""

    def __init__(self) -> None:
        self._out = _LastingConsole(soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        """A line about the stack itself."""
        self._print(text, style="bold")

    def echo(self, name: str, line: str) -> None:
        """A line that a part printed."""
        self._print(f"{name:<{_NAME_WIDTH}}| {line}")

    def mail(self, mail: Mail) -> None:
        """A mail was caught."""
        subject = " ".join(mail.document["subject"].split())
        envelope = mail.envelope
        self._print(f'{"mail":<{_NAME_WIDTH}}| {envelope.mail_from} to {", ".join(envelope.rcpt_to)}: "{subject}"')

    def announce(self, addresses: StackAddresses, seconds: float) -> None:
        """The stack is ready."""
        table = Table.grid(padding=(0, 2))
        table.add_row("API docs", f"{addresses.api_url}/docs")
        table.add_row("Temporal Web UI", addresses.temporal_ui_url)
        table.add_row("Mail sink", addresses.smtp_sink_url)
        table.add_row("Admin token", addresses.admin_token)
        try:
            self._out.print(f"\n[bold green]Latchflow is ready[/] after {seconds:.1f} s. Ctrl-C stops it.\n")
            self._out.print(table)
            self._out.print("\nWhat to try:\n")
            for line in _to_try(addresses):
                self._out.print(f"  {line}", markup=False)
            self._out.print()
        except OSError:
            return

    def complain(self, message: str, tail: tuple[str, ...] = ()) -> None:
        """What made the stack stop, with the end of the log that tells more."""
        lines = [*(f"  {line}" for line in tail), f"latchflow: {' '.join(message.split())}"]
        try:
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()
        except OSError:
            return

    def _print(self, text: str, style: str | None = None) -> None:
        try:
            self._out.print(text, style=style, markup=False, emoji=False)
        except OSError:
            return


def _to_try(addresses: StackAddresses) -> tuple[str, ...]:
    """Lines to copy into a shell; the last one names where to read on."""
    plugins = f"{addresses.api_url}/admin/plugins"
    return (
        f"curl -sS -H 'Authorization: Bearer {addresses.admin_token}' {plugins}",
        f"python3 -m webbrowser {addresses.temporal_ui_url}",
        'README.md, "A first pipeline by hand": a webhook becomes a mail',
    )


class _LastingConsole(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence, where Rich would end the process and leave the parts behind."""
        self.quiet = True
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, sys.stdout.fileno())
        os.close(silence)
