"""The small server the example looks an author up in."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_TEAMS = {"ada": ("Ada Lovelace", "Engines"), "grace": ("Grace Hopper", "Compilers")}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        login = parse_qs(urlsplit(self.path).query).get("login", [""])[0]
        name, team = _TEAMS.get(login, (login, "Guests"))
        body = json.dumps({"login": login, "name": name, "team": team}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Quiet: the demo shows what it reads back through the public API."""


@contextmanager
def directory() -> Iterator[int]:
    """Serve on a free port of 127.0.0.1; yields the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
