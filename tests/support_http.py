"""An HTTP server on loopback that misbehaves as a test tells it to."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """One file at `url`; every request is written down in `asked` as the Range that it wants, "" for the whole."""

    content: bytes
    url: str = ""
    etag: str = '"one"'
    ranges: bool = True  # whether it knows Range at all
    length: bool = True  # whether it says how much it will send
    cuts: list[int] = field(default_factory=list)  # the next answers end after so many bytes
    statuses: list[int] = field(default_factory=list)  # the next answers are these instead
    headers: dict[str, str] = field(default_factory=dict)  # of those
    asked: list[str] = field(default_factory=list)
    hold: threading.Event | None = None  # an answer that is cut waits for it, with the connection open

    def answer(self, asked: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a request's headers."""
        if self.statuses:
            return self.statuses.pop(0), {**self.headers, "Content-Length": "0"}, b""
        if self.etag and asked.get("If-None-Match") == self.etag:
            return 304, {}, b""
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
        same = asked.get("If-Range") in (None, self.etag)
        start = int(wanted[1]) if wanted and self.ranges and same else 0
        if start and start >= len(self.content):
            return 416, {"Content-Length": "0"}, b""
        body = self.content[start:]
        headers = {"ETag": self.etag} if self.etag else {}
        if self.length:
            headers["Content-Length"] = str(len(body))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return 206 if start else 200, headers, body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.close_connection = True
        self.site.asked.append(self.headers.get("Range", ""))
        status, headers, body = self.site.answer(self.headers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.site.cuts.pop(0) if body and self.site.cuts else None
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if cut is not None and self.site.hold:
            self.site.hold.wait(30)

    def log_message(self, *args: object) -> None: ...


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away is what some tests are about."""


@contextmanager
def serve(content: bytes) -> Iterator[Site]:
    """Serve `content` until the block ends."""
    site = Site(content)
    handler = type("Handler", (_Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/ESC-50-master.zip"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield site
        if site.hold:
            site.hold.set()
        server.shutdown()
