"""Limits for one client: requests per minute."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from serving.gateway.problems import Problem

MAX_CLIENTS = 10_000  # that are remembered; the one that was silent for longest is forgotten first


@dataclass
class _Bucket:
    tokens: float
    filled: float


class RateLimiter:
    """A token bucket for each client, which holds the requests of a minute and refills evenly."""

    def __init__(self, requests_per_minute: int) -> None:
        self._capacity = requests_per_minute
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def admit(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: 429, with the time after which there is a place again.
        """
        if not self._capacity:
            return
        now, rate = time.monotonic(), self._capacity / 60
        bucket = self._buckets.setdefault(client, _Bucket(self._capacity, now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._capacity, bucket.tokens + rate * (now - bucket.filled))
        bucket.filled = now
        if bucket.tokens < 1:
            wait = math.ceil((1 - bucket.tokens) / rate)
            detail = f"more than {self._capacity} requests per minute; send the next one in {wait} s"
            raise Problem(429, "rate_limited", detail, {"Retry-After": str(wait)})
        bucket.tokens -= 1
