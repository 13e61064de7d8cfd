"""A stand-in for the API: readiness, and the health of the workers."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import notes


class Handler(BaseHTTPRequestHandler):
    """Answers the two questions that the stack asks."""

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/readyz":
            self._answer(200, {})
        elif self.headers["Authorization"] != f"Bearer {os.environ['LATCHFLOW_BOOTSTRAP_TOKEN']}":
            self._answer(401, {})
        else:
            processes = [{"role": "worker", "pid": int(note.stem)} for note in notes.NOTES.glob("*.worker")]
            self._answer(200, {"processes": processes, "plugins": [{"name": "@latchflow/core", "status": "ENABLED"}]})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay quiet."""

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    notes.begin("api")
    address = (os.environ["LATCHFLOW_API_HOST"], int(os.environ["LATCHFLOW_API_PORT"]))
    ThreadingHTTPServer(address, Handler).serve_forever()
