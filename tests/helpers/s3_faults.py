"""A proxy on loopback before the S3 server that breaks answers as a test tells it to."""

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
    """What goes wrong at `url`. A fault is "cut" (half the body, then the end), "flip" (one bit of it), or a status."""

    server: str
    url: str = ""
    requests: list[str] = field(default_factory=list)  # faults of the next requests, whatever they ask for
    objects: list[str] = field(default_factory=list)  # faults of the next reads of objects
    always: dict[str, str] = field(default_factory=dict)  # a pattern of keys, and the fault of each read of them
    headers: dict[str, str] = field(default_factory=dict)  # of objects, besides the server's
    drop: tuple[str, ...] = ()  # headers of objects that are left out, in small letters
    etag: str = ""  # of every object, in the listing too
    reads: int = 0  # of objects

    def fault(self, method: str, path: str) -> str:
        """What befalls a request."""
        if self.requests:
            return self.requests.pop(0)
        if not (method == "GET" and self.is_object(path)):
            return ""
        self.reads += 1
        for pattern, fault in self.always.items():
            if re.search(pattern, path):
                return fault
        return self.objects.pop(0) if self.objects else ""

    @staticmethod
    def is_object(path: str) -> bool:
        """Whether it is a key's address, not a bucket's."""
        return urlsplit(path).path.strip("/").count("/") > 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults

    def do_GET(self) -> None:
        fault = self.faults.fault(self.command, self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault.isdigit():
            self.answer(int(fault), {}, b"")
            return
        server = http.client.HTTPConnection(urlsplit(self.faults.server).netloc)
        server.request(self.command, self.path, sent, dict(self.headers.items()))
        found = server.getresponse()
        body, headers = found.read(), dict(found.getheaders())
        server.close()
        if self.faults.is_object(self.path):
            headers = {name: value for name, value in headers.items() if name.lower() not in self.faults.drop}
            headers |= self.faults.headers
        if self.faults.etag:
            body = re.sub(rb"<ETag>.*?</ETag>", f"<ETag>&quot;{self.faults.etag}&quot;</ETag>".encode(), body)
        self.answer(found.status, headers, body, fault)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], body: bytes, fault: str = "") -> None:
        """Send it, damaged by `fault`."""
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
        """A client that goes away is what some tests are about."""


@contextmanager
def between(server: str) -> Iterator[Faults]:
    """A proxy before `server` until the block ends."""
    faults = Faults(server)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"faults": faults})) as proxy:
        faults.url = f"http://127.0.0.1:{proxy.server_address[1]}"
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield faults
        proxy.shutdown()
