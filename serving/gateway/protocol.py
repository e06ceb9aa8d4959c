"""HTTP connections that end if a client sends a head too slowly or without end, or does not read its answers.

If there are too many connections, the one that has been idle for longest ends for a new one.
"""

from asyncio import BaseTransport, TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.body import MIN_RATE

MAX_HEAD = 2**16  # bytes of a head, or of fields after a body in chunks, that has not arrived completely
IDLE_TIMEOUT = 30  # s between an answer, or the beginning of a connection, and the head of the next request


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit for the time in which it handles no request, and one for the size of a head.

    uvicorn's own limit, for a connection that is kept alive, ends with the first byte that arrives; heads have none. A
    client that does not read an answer would keep it in memory; it has to read MIN_RATE bytes per second.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timer: TimerHandle | None = None
        self._head_size = 0  # bytes since the last head was complete, or the last byte of a body arrived
        self._cycles: list[RequestResponseCycle] = []  # requests that are handled, or wait for earlier answers

    def data_received(self, data: bytes) -> None:
        self._head_size += len(data)
        super().data_received(data)
        if self._head_size > MAX_HEAD:
            self.transport.close()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if self.limit_concurrency and len(self.connections) >= self.limit_concurrency:
            self._end_an_idle_connection()
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        for cycle in self._cycles:  # uvicorn tells the last one only: the others would write to a closed connection
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._head_size = 0
        if not self.flow.write_paused:  # otherwise the client does not read the answer before
            self._stop()
        super().on_headers_complete()
        self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head_size = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._cycles = [cycle for cycle in self._cycles if not cycle.response_complete]
        if not self._cycles:
            self._start()  # the rest of a body that was not read counts too

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.cycle.response_complete:
            self._stop()

    def _end_an_idle_connection(self) -> None:
        """End the one that has been idle for longest: uvicorn counts it, and would answer 503 to the new one."""
        ends = {each: each.timer.when() for each in self.connections if isinstance(each, TimedProtocol) and each.timer}
        if ends:
            oldest = min(ends, key=ends.__getitem__)
            oldest.transport.abort()
            self.connections.discard(oldest)

    def _start(self) -> None:
        self._stop()
        unread = self.transport.get_write_buffer_size()
        if unread or not self.transport.is_closing():
            self.timer = self.loop.call_later(IDLE_TIMEOUT, self._end, unread)

    def _end(self, unread: int) -> None:
        """Close the connection, unless its client is reading an answer; do not wait for one that does not."""
        left = self.transport.get_write_buffer_size()
        if unread - left >= MIN_RATE * IDLE_TIMEOUT:
            self._start()
        elif left:
            self.transport.abort()
        else:
            self.transport.close()

    def _stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
