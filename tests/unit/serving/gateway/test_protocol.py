"""Connections that do not send requests in time."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from helpers.torchserve import free_ports

from serving.gateway import protocol
from serving.gateway.protocol import TimedProtocol

TIMEOUT = 0.5  # s


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT", TIMEOUT)
    (free,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=free, http=TimedProtocol, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield free
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
)
def test_connection_without_a_whole_request_ends(port, sent):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        began = time.monotonic()
        client.sendall(sent)
        received = b""
        while part := client.recv(4096):
            received += part
            client.sendall(b"1")  # what arrives meanwhile changes nothing
        assert TIMEOUT / 2 < time.monotonic() - began < 5
    assert (b"403" in received) == sent.endswith(b"\r\n\r\n")


def test_connection_with_an_endless_head_ends(port, monkeypatch):
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT", 60)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, pytest.raises(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(10_000):
            client.sendall(bytes(b"a" * 10_000))


def test_requests_in_time_share_a_connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(4):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"403" in client.recv(4096)
            time.sleep(TIMEOUT / 2)
