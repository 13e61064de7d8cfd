"""A server in a process of its own that speaks Google's authorize, token, send and search endpoints.

How it answers is scripted from outside: ``POST /_script {"send": ["cut"], "search": […], "token": […]}``; each list is
used up answer by answer, then everything is answered as it should be.
"""

import base64
import email
import hashlib
import json
import subprocess
import sys
import threading
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

CLIENT_ID = "client.apps.example"
CLIENT_SECRET = "client-secret-of-tests"
REFRESH_TOKEN = "refresh-token-of-tests"
SENDER = "me@example.org"


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.script: dict[str, list[str]] = {}
        self.messages: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.challenges: dict[str, str] = {}

    def next(self, endpoint: str) -> str:
        with self.lock:
            answers = self.script.get(endpoint, [])
            return answers.pop(0) if answers else "200"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _State

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/_seen":
            self._answer(200, {"messages": self.state.messages, "requests": self.state.requests})
        elif url.path == "/auth":
            self._authorize(query)
        elif url.path == "/gmail/v1/users/me/messages":
            self._note(url.path, query)
            self._search(query)
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = urlsplit(self.path).path
        if path == "/_script":
            self.state.script = json.loads(body)
            self._answer(200, {})
            return
        if path == "/token":
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            self._note(path, form)
            self._token(form)
        elif path == "/gmail/v1/users/me/messages/send":
            self._note(path, {})
            self._send(base64.urlsafe_b64decode(json.loads(body)["raw"]))
        elif path == "/upload/gmail/v1/users/me/messages/send":
            self._note(path, {"contentType": self.headers.get("content-type")})
            self._send(body)
        else:
            self._answer(404, {})

    def _note(self, path: str, values: dict[str, Any]) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.state.requests.append({"path": path, "values": values, "token": token})

    def _authorize(self, query: dict[str, str]) -> None:
        """As if the owner of the mailbox had agreed at once."""
        answer = self.state.next("auth")
        code = f"code-{len(self.state.challenges)}"
        self.state.challenges[code] = query["code_challenge"]
        state = "another" if answer == "wrong-state" else query["state"]
        back = {"error": "access_denied", "state": state} if answer == "denied" else {"code": code, "state": state}
        self.state.requests.append({"path": "/auth", "values": query, "token": ""})
        self.send_response(302)
        self.send_header("location", f"{query['redirect_uri']}?{urlencode(back)}")
        self.send_header("content-length", "0")
        self.end_headers()

    def _token(self, form: dict[str, str]) -> None:
        answer = self.state.next("token")
        if answer != "200":
            error = "invalid_grant" if answer == "400" else "internal_failure"
            self._answer(int(answer), {"error": error, "error_description": "scripted"})
            return
        if form.get("client_id") != CLIENT_ID or form.get("client_secret") != CLIENT_SECRET:
            self._answer(401, {"error": "invalid_client"})
            return
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.state.challenges.pop(form["code"], None):
                self._answer(400, {"error": "invalid_grant"})
                return
        elif form.get("refresh_token") != REFRESH_TOKEN:
            self._answer(400, {"error": "invalid_grant"})
            return
        token = f"access-{len(self.state.tokens)}"
        self.state.tokens.append(token)
        granted = {"refresh_token": REFRESH_TOKEN} if form["grant_type"] == "authorization_code" else {}
        self._answer(200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer", **granted})

    def _send(self, content: bytes) -> None:
        answer = self.state.next("send")
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.state.tokens:
            answer = "401"
        if answer in ("200", "cut", "500-taken"):
            parsed = email.message_from_bytes(content, policy=SMTP)
            identifier = f"m{len(self.state.messages)}"
            self.state.messages.append(
                {
                    "id": identifier,
                    "messageId": str(parsed["Message-ID"]),
                    "from": str(parsed["From"]),
                    "to": str(parsed["To"]),
                    "bcc": str(parsed["Bcc"]),
                    "subject": str(parsed["Subject"]),
                    "parts": [[part.get_content_type(), part.get_filename()] for part in parsed.walk()],
                }
            )
            if answer == "200":
                self._answer(200, {"id": identifier, "threadId": identifier, "labelIds": ["SENT"]})
                return
        if answer.startswith("cut"):  # "cut": taken, and no answer; "cut-before": not taken
            self.close_connection = True
            return
        self._refuse(answer.partition("-")[0], answer.partition("-")[2])

    def _search(self, query: dict[str, str]) -> None:
        answer = self.state.next("search")
        if answer not in ("200", "not-yet"):
            self._refuse(answer, "")
            return
        wanted = "<" + query["q"].removeprefix("rfc822msgid:") + ">"
        found = [entry for entry in self.state.messages if entry["messageId"] == wanted and answer == "200"]
        listed = [{"id": entry["id"], "threadId": entry["id"]} for entry in found]
        self._answer(200, {"messages": listed, "resultSizeEstimate": 1} if listed else {"resultSizeEstimate": 0})

    def _refuse(self, status: str, reason: str) -> None:
        errors = [{"domain": "global", "reason": reason or "scripted", "message": "scripted"}]
        document = {"error": {"code": int(status), "message": "scripted", "errors": errors}}
        self._answer(int(status), document, {"retry-after": "7"} if status == "429" else {})

    def _answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class GmailServer:
    """Runs the server and says how it answers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.gmail_server"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def config(self, **values: Any) -> dict[str, Any]:
        """A config of the provider that leads here."""
        return {
            "clientId": CLIENT_ID,
            "clientSecret": CLIENT_SECRET,
            "refreshToken": REFRESH_TOKEN,
            "sender": SENDER,
            "apiUrl": self.url,
            "tokenUrl": f"{self.url}/token",
            **values,
        }

    def script(self, **answers: list[str]) -> None:
        """Answer so from now on."""
        httpx2.post(f"{self.url}/_script", json=answers, trust_env=False).raise_for_status()

    def messages(self) -> list[dict[str, Any]]:
        """The mails that were taken, in order."""
        found: list[dict[str, Any]] = self._seen()["messages"]
        return found

    def paths(self) -> list[str]:
        """The last part of the path of each request, in order."""
        return [request["path"].rpartition("/")[2] for request in self.requests()]

    def requests(self) -> list[dict[str, Any]]:
        """Every request."""
        found: list[dict[str, Any]] = self._seen()["requests"]
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _seen(self) -> dict[str, Any]:
        answer = httpx2.get(f"{self.url}/_seen", trust_env=False)
        document: dict[str, Any] = answer.json()
        return document


def _serve() -> None:
    _Handler.state = _State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
