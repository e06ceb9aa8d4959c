"""HTTP connections that end if the head of a request does not arrive in time, or is too large."""

from asyncio import BaseTransport, TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 2**16  # bytes of the head of a request that has not arrived completely
IDLE_TIMEOUT = 30  # s between an answer, or the beginning of a connection, and the head of the next request


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit for the time in which it handles no request, and one for the size of a head.

    uvicorn's own limit, for a connection that is kept alive, ends with the first byte that arrives; heads have none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: TimerHandle | None = None
        self._in_head = False
        self._head_size = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_size = self._head_size + len(data) if self._in_head else 0
        if self._head_size > MAX_HEAD:
            self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._start()  # the rest of a body that was not read counts too

    def _start(self) -> None:
        self._stop()
        if not self.transport.is_closing():
            self._timer = self.loop.call_later(IDLE_TIMEOUT, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
