"""An HTTP server on the loopback interface that serves one file and can inject faults."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """The file that is served, and how.

    Attributes:
        content: the file.
        url: its URL.
        etag, modified: the headers ETag and Last-Modified; empty for none.
        ranges: whether range requests are supported.
        length: whether the header Content-Length is sent.
        chunked: whether the body has the transfer encoding chunked, as GitHub sends archives.
        cuts: the next bodies end after this number of bytes.
        statuses: the next responses have these statuses and no body.
        headers: headers of these responses.
        requests: the header Range of each request so far; empty if there was none.
        hold: if set, a connection whose body was cut stays open until the event.
    """

    content: bytes
    url: str = ""
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True
    length: bool = True
    chunked: bool = False
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    hold: threading.Event | None = None

    def respond(self, request: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for the headers of a request."""
        if self.statuses:
            return self.statuses.pop(0), {**self.headers, "Content-Length": "0"}, b""
        requested = re.fullmatch(r"bytes=(\d+)-", request.get("Range", ""))
        unchanged = request.get("If-Range") in (None, self.etag, self.modified)
        start = int(requested[1]) if requested and self.ranges and unchanged else 0
        size = len(self.content)
        if start and start >= size:
            return 416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"}, b""
        body = self.content[start:]
        headers = {"ETag": self.etag, "Last-Modified": self.modified}
        headers = {name: value for name, value in headers.items() if value}
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif self.length:
            headers["Content-Length"] = str(len(body))
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return 206 if start else 200, headers, body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.close_connection = True
        self.site.requests.append(self.headers.get("Range", ""))
        status, headers, body = self.site.respond(self.headers)
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
        """Ignore clients that close the connection; some tests kill them."""


@contextmanager
def serve(content: bytes) -> Iterator[Site]:
    """Serve `content` while the block runs."""
    site = Site(content)
    handler = type("Handler", (_Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/ESC-50-master.zip"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield site
        if site.hold:
            site.hold.set()
        server.shutdown()
