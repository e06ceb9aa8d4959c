"""Limits for one client."""

import asyncio
import time

import pytest

from serving.gateway import limits
from serving.gateway.limits import RateLimiter, Turns
from serving.gateway.problems import Problem


def test_requests_above_the_rate_are_refused_until_there_is_a_place(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limiter = RateLimiter(7)
    for _ in range(7):  # the sum of seven shares of a minute is rounded up
        limiter.admit("alice")
    limiter.admit("bob")
    with pytest.raises(Problem) as raised:
        limiter.admit("alice")
    assert (raised.value.status, raised.value.headers) == (429, {"Retry-After": "9"})
    now += 9
    limiter.admit("alice")
    with pytest.raises(Problem):
        limiter.admit("alice")


def test_zero_is_no_limit():
    limiter = RateLimiter(0)
    for _ in range(1000):
        limiter.admit("alice")


def test_the_limiter_forgets_the_client_that_was_silent_for_longest(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLIENTS", 2)
    limiter = RateLimiter(1)
    for client in ("alice", "bob", "carol", "alice"):
        limiter.admit(client)
    with pytest.raises(Problem):
        limiter.admit("carol")


def test_chunks_pass_one_at_a_time():
    async def run() -> int:
        turns, active, most = Turns(), 0, 0

        async def chunk() -> None:
            nonlocal active, most
            async with turns.chunk():
                active += 1
                most = max(most, active)
                await asyncio.sleep(0.01)
                active -= 1

        await asyncio.gather(*(chunk() for _ in range(5)))
        return most

    assert asyncio.run(run()) == 1


async def start_of_chunk(turns: Turns) -> float:
    async with turns.chunk():
        return time.monotonic()


def test_chunk_waits_for_the_end_of_other_requests(monkeypatch):
    monkeypatch.setattr(limits, "MAX_WAIT", 60.0)

    async def run() -> float:
        turns = Turns()
        with turns.other():
            chunk = asyncio.create_task(start_of_chunk(turns))
            await asyncio.sleep(0.1)
            assert not chunk.done()
            ended = time.monotonic()
        return await chunk - ended

    assert limits.PAUSE <= asyncio.run(run()) < 30


def test_chunk_does_not_wait_forever():
    async def run() -> float:
        turns, began = Turns(), time.monotonic()
        with turns.other():
            return await start_of_chunk(turns) - began

    assert limits.MAX_WAIT <= asyncio.run(run()) < 30
