"""OAuth for programs on a person's machine (RFC 8252, with PKCE): out to the browser, and back here."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from latchflow.errors import ConfigurationError

_SECONDS = 30.0
_MAX_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class OAuthClient:
    """Who asks, and whom.

    Attributes:
        scopes: What the owner of the account is asked to allow.
        extra: More parameters of the consent page.
    """

    client_id: str
    client_secret: str = field(repr=False)
    auth_url: str
    token_url: str
    scopes: tuple[str, ...]
    extra: dict[str, str] = field(default_factory=dict)


def refresh_token(client: OAuthClient, *, show: Callable[[str], None], port: int, timeout_seconds: float) -> str:
    """Let the owner of an account allow it, and fetch the refresh token.

    Args:
        client: Who asks.
        show: Called with the address of the consent page.
        port: Where the browser comes back to, on loopback; 0 takes a free one.
        timeout_seconds: How long the owner has.

    Raises:
        ConfigurationError: Nobody came back in time, the owner refused, or the exchange failed.
    """
    verifier = secrets.token_urlsafe(64)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    state = secrets.token_urlsafe(32)
    with _Listener(state, port) as listener:
        query = {
            "client_id": client.client_id,
            "redirect_uri": listener.address,
            "response_type": "code",
            "scope": " ".join(client.scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **client.extra,
        }
        show(f"{client.auth_url}?{urlencode(query)}")
        code = listener.wait(timeout_seconds)
        return _exchange(client, code, verifier, listener.address)


def _exchange(client: OAuthClient, code: str, verifier: str, redirect_uri: str) -> str:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
        "client_id": client.client_id,
        "client_secret": client.client_secret,
    }
    try:
        answer = httpx2.post(client.token_url, data=form, timeout=_SECONDS, trust_env=False)
        document = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ConfigurationError(f"{client.token_url} gave no token: {reason}. Try again.") from None
    if not isinstance(document, dict):
        document = {}
    if not answer.is_success:
        reason = f"{document.get('error', answer.status_code)} {document.get('error_description', '')}".strip()
        raise ConfigurationError(
            f"{client.token_url} gave no token: {reason[:_MAX_SHOWN]}. Check client id and secret."
        )
    token = document.get("refresh_token")
    if not isinstance(token, str) or not token:
        raise ConfigurationError(
            "There was no refresh token in the answer. Remove the client's access in the account, and try again."
        )
    return token


class _Listener(HTTPServer):
    """Waits on loopback for the browser that comes back with this `state`."""

    timeout = 0.5

    def __init__(self, state: str, port: int) -> None:
        self.state = state
        self.code: str | None = None
        self.refusal: str | None = None
        try:
            super().__init__(("127.0.0.1", port), _Return)
        except OSError as error:
            raise ConfigurationError(f"Port {port} cannot be used: {error.strerror}. Choose another --port.") from None

    @property
    def address(self) -> str:
        """Where the browser is sent back to."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def wait(self, seconds: float) -> str:
        """The code.

        Raises:
            ConfigurationError: The owner refused, or nobody came.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.handle_request()
            if self.code is not None:
                return self.code
            if self.refusal is not None:
                raise ConfigurationError(f"The account's owner did not allow it: {self.refusal}.")
        raise ConfigurationError(f"Nobody came back from the consent page within {seconds:g} s. Try again.")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away early harms nobody."""


class _Return(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5.0

    def do_GET(self) -> None:
        """Take the code, from whoever knows the state and from nobody else."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if not hmac.compare_digest(query.get("state", "").encode(), self.server.state.encode()):
            self._answer(400, "This is not the answer that was waited for. Start again from the command line.")
        elif "code" in query:
            self.server.code = query["code"]
            self._answer(200, "Thank you. You can close this window and go back to the command line.")
        else:
            self.server.refusal = query.get("error", "no code came back")[:_MAX_SHOWN]
            self._answer(200, "Nothing was allowed. You can close this window.")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: the address holds the code."""

    def _answer(self, status: int, text: str) -> None:
        content = f"<!doctype html><title>Latchflow</title><p>{text}".encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)
