"""Connections that do not send requests or read answers in time."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn
from helpers.torchserve import free_ports

from serving.gateway import protocol
from serving.gateway.protocol import TimedProtocol

TIMEOUT = 0.5  # s
CONNECTIONS = 8
LARGE = bytes(2**24)  # more than the buffers of the kernel
received: list[str] = []  # types of the messages to the requests for /wait


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer without reading the body; to /wait, when the client has gone."""
    while scope["path"] == "/wait" and "http.disconnect" not in received:
        received.append((await receive())["type"])
    parts = {"/large": [LARGE], "/parts": [LARGE, LARGE]}.get(scope["path"], [b"no"])
    length = str(sum(map(len, parts))).encode()
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", length)]})
    for index, part in enumerate(parts, 1):
        await send({"type": "http.response.body", "body": part, "more_body": index < len(parts)})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT", TIMEOUT)
    (free,) = free_ports(1)
    options = {"http": TimedProtocol, "limit_concurrency": CONNECTIONS, "lifespan": "off", "log_level": "error"}
    server = uvicorn.Server(uvicorn.Config(app, port=free, timeout_graceful_shutdown=1, **options))
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


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "repeated"),
    [(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"), (CHUNKED + b"0\r\n", b"X: a\r\n"), (CHUNKED + b"1;a=", b"a")],
    ids=["head", "fields after the body", "extension of a chunk"],
)
def test_connection_that_sends_fields_without_end_ends(port, monkeypatch, sent, repeated):
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT", 60)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, pytest.raises(ConnectionError):
        client.sendall(sent)
        for _ in range(10_000):
            client.sendall(repeated * 10_000)


@pytest.mark.parametrize(
    ("path", "connection", "count"),
    [("/large", "close", 1), ("/large", "keep-alive", 1), ("/large", "keep-alive", 2), ("/parts", "close", 1)],
)
def test_connection_whose_client_does_not_read_ends(port, path, connection, count):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(count):
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n".encode())
            time.sleep(TIMEOUT / 5)
        time.sleep(3 * TIMEOUT)
        size = 0
        with suppress(ConnectionError):
            while part := client.recv(2**16):
                size += len(part)
    assert size < len(LARGE), "only what the kernel had taken already"


def test_client_that_reads_slowly_gets_the_whole_answer(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        began, size = time.monotonic(), 0
        while part := client.recv(2**18, socket.MSG_WAITALL):
            size += len(part)
            time.sleep(TIMEOUT / 20)
    assert size > len(LARGE)
    assert time.monotonic() - began > 2 * TIMEOUT


def test_requests_in_time_share_a_connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(4):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"403" in client.recv(4096)
            time.sleep(TIMEOUT / 2)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_requests_of_a_client_that_left_end_without_an_error(port, capfd):
    received.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(2 * b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(received) == 1)
    wait_until(lambda: len(received) == 2)
    assert received == ["http.request", "http.disconnect"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:  # afterwards
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"403" in client.recv(4096)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_request_that_follows_another_has_its_own_time(port):
    received.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(received) == 1)
        time.sleep(3 * TIMEOUT)
        assert received == ["http.request"], "the connection has not ended"


def test_idle_connections_make_room_for_new_ones(port, monkeypatch):
    monkeypatch.setattr(protocol, "IDLE_TIMEOUT", 60)

    def answered(client: socket.socket) -> bytes:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client.recv(4096)

    with ExitStack() as stack:
        clients = []
        for _ in range(2 * CONNECTIONS):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            assert b"403" in answered(clients[-1])
            time.sleep(0.005)  # the server's clock counts milliseconds
        assert clients[0].recv(1) == b""
        assert b"403" in answered(clients[-2]), "only the oldest ones have ended"


def test_requests_beyond_the_limit_are_refused(port):
    received.clear()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS - 1):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(received) == CONNECTIONS - 1)
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"503" in client.recv(4096)
