"""An HTTP server that sends prepared responses."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Response = tuple[int, Mapping[str, str], Any]  # status, headers, and the body: text, or an object that becomes JSON
CLOSED = None  # instead of a response, the connection ends


class Responder(ThreadingHTTPServer):
    """Sends each response once, and then always the last.

    Attributes:
        requests: path and header Authorization of each request so far.
    """

    def __init__(self, responses: tuple[Response | None, ...], address: str) -> None:
        super().__init__((address, 0), _Handler)
        self.responses = list(responses)
        self.requests: list[tuple[str, str]] = []
        self.url = f"http://{address}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Responder)
        self.server.requests.append((self.path, self.headers.get("Authorization", "")))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        responses = self.server.responses
        response = responses.pop(0) if len(responses) > 1 else responses[0]
        if response is CLOSED:
            return
        status, headers, body = response
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def responding(*responses: Response | None, address: str = "127.0.0.1") -> Iterator[Responder]:
    """Run the server for the block."""
    with Responder(responses, address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def problem(status: int, reason: str, **headers: str) -> Response:
    """Return a problem of the gateway."""
    body = {"reason": reason, "detail": "one sentence"}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body
