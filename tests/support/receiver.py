"""A receiver of requests in a process of its own: it carries them out and then, often, drops the connection.

``POST /effects``: the header ``idempotency-key``, if there is one, makes a repeated request the same effect.
``?drop=first`` drops the connection after the first request of each ``id``, ``?drop=always`` after each.
"""

import json
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

_lock = threading.Lock()
_requests: Counter[str] = Counter()
_effects: Counter[str] = Counter()
_keys: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        identifier, key = query["id"], self.headers.get("idempotency-key")
        with _lock:
            _requests[identifier] += 1
            if key is None or key not in _keys:
                _effects[identifier] += 1
            if key is not None:
                _keys.add(key)
            is_first = _requests[identifier] == 1
        drop = query.get("drop")
        if drop == "always" or (drop == "first" and is_first):
            self.close_connection = True
            return
        self._answer({"ok": True})

    def do_GET(self) -> None:
        self._answer({"requests": _requests, "effects": _effects})

    def _answer(self, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Receiver:
    """Runs it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.receiver"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def url(self, identifier: object, drop: str | None = None) -> str:
        """Where to send the request of this id."""
        return f"http://127.0.0.1:{self.port}/effects?id={identifier}" + (f"&drop={drop}" if drop else "")

    def requests(self) -> Counter[str]:
        """How often each id was asked for."""
        return Counter(self._seen()["requests"])

    def effects(self) -> Counter[str]:
        """How often each id was carried out."""
        return Counter(self._seen()["effects"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _seen(self) -> dict[str, Any]:
        document: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{self.port}/", trust_env=False, timeout=30).json()
        return document


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _serve() -> None:
    server = _Server(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
