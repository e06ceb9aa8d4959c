"""Limits: requests per minute of a client, chunks of long recordings between other requests, time for an answer."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from serving.gateway.problems import Problem

PAUSE = 0.05  # s without other requests, after which a chunk of a long recording is sent
MAX_WAIT = 0.5  # s after which it is sent in any case
POLL = 0.01  # s
ROUNDING = 1e-6  # s, of the sum of the shares of a minute that requests take
MAX_CLIENTS = 10_000  # that are remembered; the one that was silent for longest is forgotten first


class RateLimiter:
    """Lets each client send the requests of a minute at once, and then evenly (generic cell rate algorithm)."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = requests_per_minute
        self._full_at: dict[str, float] = {}  # by client: when it may send all of them again

    def admit(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: 429, with the time after which there is a place again.
        """
        if not self._limit:
            return
        now, share = time.monotonic(), 60 / self._limit
        full_at = max(now, self._full_at.pop(client, now))
        wait = full_at + share - (now + 60)
        admitted = wait < ROUNDING
        self._full_at[client] = full_at + share if admitted else full_at
        if len(self._full_at) > MAX_CLIENTS:
            del self._full_at[next(iter(self._full_at))]
        if not admitted:
            detail = f"more than {self._limit} requests per minute; send the next one in {math.ceil(wait)} s"
            raise Problem(429, "rate_limited", detail, {"Retry-After": str(math.ceil(wait))})


class Turns:
    """Lets the chunks of long recordings pass one at a time and between other requests, so that those stay fast."""

    def __init__(self) -> None:
        self._others = 0
        self._ended = -PAUSE  # when the last of the others ended
        self._chunk = asyncio.Lock()

    @contextmanager
    def other(self) -> Iterator[None]:
        """Mark the time of a request that is not a chunk."""
        self._others += 1
        try:
            yield
        finally:
            self._others -= 1
            self._ended = time.monotonic()

    @asynccontextmanager
    async def chunk(self) -> AsyncIterator[None]:
        """Wait for the turn of a chunk, and keep it for the block."""
        async with self._chunk:
            end = time.monotonic() + MAX_WAIT
            while (self._others or time.monotonic() - self._ended < PAUSE) and time.monotonic() < end:
                await asyncio.sleep(POLL)
            yield


class AnswerTimeout:
    """Ends requests that TorchServe has lost, but not those that wait because it is busy.

    TorchServe answers in the order of arrival. So each answer gives the requests that were sent later their time anew,
    and those that were sent earlier not.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Timeout, tuple[float, float]] = {}

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of a block, which ends without an exception if the request has been answered.

        Raises:
            TimeoutError: nothing was answered to it and to earlier ones for so long.
        """
        loop = asyncio.get_running_loop()
        sent = loop.time()
        async with asyncio.timeout(seconds) as timeout:
            self._waiting[timeout] = sent, seconds
            try:
                yield
            finally:
                del self._waiting[timeout]
            for other, (began, patience) in self._waiting.items():
                if began > sent and not other.expired():
                    other.reschedule(loop.time() + patience)
