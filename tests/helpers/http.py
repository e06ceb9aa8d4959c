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
    modified: str = ""  # Last-Modified
    ranges: bool = True  # whether it knows Range at all
    if_range: bool = True  # whether it looks at If-Range
    shift: int = 0  # a part begins so many bytes after the one that was asked for
    piece: int | None = None  # the most bytes of one part
    length: bool = True  # whether it says how much it will send
    chunked: bool = False  # says no length, and sends in chunks, as GitHub does
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
        same = not self.if_range or asked.get("If-Range") in (None, self.etag, self.modified)
        start = int(wanted[1]) if wanted and self.ranges and same else 0
        size = len(self.content)
        if start and start >= size:
            return 416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"}, b""
        first = start + self.shift if start else 0
        body = self.content[first : first + self.piece if start and self.piece else None]
        last = first + len(body) - 1
        headers = {"ETag": self.etag, "Last-Modified": self.modified}
        headers = {name: value for name, value in headers.items() if value}
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif self.length:
            headers["Content-Length"] = str(len(body))
        if start:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
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
