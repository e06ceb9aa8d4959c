"""A proxy on loopback, in front of the S3 server, that injects faults."""

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Faults:
    """The faults to inject. Each is "cut" (send half of the body), "flip" (change one bit of it), or a status code."""

    server: str
    url: str = ""
    requests: list[str] = field(default_factory=list)  # for the next requests of any kind
    objects: list[str] = field(default_factory=list)  # for the next reads of objects; "" is no fault
    always: dict[str, str] = field(default_factory=dict)  # for all reads of keys that match a pattern
    reads: int = 0  # reads of objects so far

    def next_fault(self, method: str, path: str) -> str:
        """Return the fault of a request; "" if there is none."""
        if self.requests:
            return self.requests.pop(0)
        is_object = urlsplit(path).path.strip("/").count("/") > 0
        if not (method == "GET" and is_object):
            return ""
        self.reads += 1
        for pattern, fault in self.always.items():
            if re.search(pattern, path):
                return fault
        return self.objects.pop(0) if self.objects else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def do_GET(self) -> None:
        fault = self.faults.next_fault(self.command, self.path)
        request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault.isdigit():
            self.answer(int(fault), {}, b"")
            return
        server = http.client.HTTPConnection(urlsplit(self.faults.server).netloc)
        server.request(self.command, self.path, request, dict(self.headers.items()))
        response = server.getresponse()
        body, headers = response.read(), dict(response.getheaders())
        server.close()
        self.answer(response.status, headers, body, fault)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], body: bytes, fault: str = "") -> None:
        """Send a response, damaged by `fault`."""
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or fault == "cut"

    def log_message(self, *args: object) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect, as some tests make them do."""


@contextmanager
def start_proxy(server: str) -> Iterator[Faults]:
    """Run a proxy in front of `server` until the block ends."""
    faults = Faults(server)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"faults": faults})) as proxy:
        faults.url = f"http://127.0.0.1:{proxy.server_address[1]}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield faults
        proxy.shutdown()
