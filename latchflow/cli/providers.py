"""``latchflow providers``."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings, provider_variables

if TYPE_CHECKING:
    from latchflow.cli.server import Server

providers = typer.Typer(help="Providers of a running deployment.", no_args_is_help=True)

_KEY = "PLUGIN_LATCHFLOW_PLUGIN_GMAIL_PROVIDER_GMAIL"
_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_SEND = "https://www.googleapis.com/auth/gmail.send"
_READ = "https://www.googleapis.com/auth/gmail.readonly"
_ID, _SECRET, _SENDER = "GMAIL_CLIENT_ID", "GMAIL_CLIENT_SECRET", "GMAIL_SENDER"


@providers.callback()
def _group() -> None:
    """Keep ``authorize`` a verb of its own while it is the only one."""


@providers.command()
def authorize(
    provider: Annotated[Literal["gmail"], typer.Argument(help="Which.", show_default=False)],
    is_saved: Annotated[
        bool, typer.Option("--save", help="Store the whole config in the system config of the server.")
    ] = False,
    send_only: Annotated[
        bool, typer.Option("--send-only", help="Ask only to send; what became of a mail can then not be looked up.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the consent page's address.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the browser comes back to; 0: a free one.")] = 0,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Seconds to wait for the consent.")] = 300,
    auth_url: Annotated[str, typer.Option(help="The consent page.")] = "https://accounts.google.com/o/oauth2/v2/auth",
    token_url: Annotated[str, typer.Option(help="Where tokens are issued.")] = _TOKEN_URL,
) -> None:
    """Let a mailbox's owner allow Latchflow to send, and print the refresh token or store it."""
    from latchflow.cli.loopback_oauth import OAuthClient, refresh_token
    from latchflow.cli.server import Server

    server = Server.of(Settings.load()) if is_saved else None  # before anybody is asked for anything
    kept = _addresses(server) if server is not None else {}
    known = provider_variables([_ID, _SECRET, _SENDER])
    client = OAuthClient(
        client_id=known.get(_ID) or typer.prompt("Client id", err=True),
        client_secret=known.get(_SECRET) or typer.prompt("Client secret", hide_input=True, err=True),
        auth_url=auth_url,
        token_url=token_url,
        scopes=(_SEND,) if send_only else (_SEND, _READ),
        extra={"access_type": "offline", "prompt": "consent"},
    )
    sender = (known.get(_SENDER) or typer.prompt("The mailbox's address", err=True)) if server is not None else ""

    def show(address: str) -> None:
        sys.stderr.write(f"Open this address in a browser, as the owner of the mailbox:\n{address}\n")
        sys.stderr.flush()
        if not no_browser:
            typer.launch(address)

    token = refresh_token(client, show=show, port=port, timeout_seconds=timeout)
    if server is None:
        sys.stdout.write(f"{token}\n")
        return
    value = {
        **kept,
        **({"tokenUrl": token_url} if token_url != _TOKEN_URL else {}),
        "clientId": client.client_id,
        "clientSecret": client.client_secret,
        "refreshToken": token,
        "sender": sender,
    }
    try:
        server.call("PUT", f"/system/config/{_KEY}", {"value": value})
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error.message} The {provider} refresh token was not stored; it is lost, so run this again."
        ) from None
    sys.stdout.write(f"{_KEY} is stored; the next mail goes through Gmail.\n")


def _addresses(server: "Server") -> dict[str, str]:
    """The addresses of a proxy that the stored config has."""
    entry = server.call("GET", f"/system/config/{_KEY}")
    value, fields = entry["value"], entry["fields"] or {}
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name in ("apiUrl", "tokenUrl") if fields.get(name) == "database"}
