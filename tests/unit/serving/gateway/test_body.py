"""Bodies of requests: limits, and how they are split into sound files."""

import asyncio
import base64
import json

import pytest
from fastapi import Request
from helpers.gateway import gateway_settings, multipart
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.body import PIECE, BodyReader, Sounds, split
from serving.gateway.context import make_context
from serving.gateway.problems import Problem

SOUND = b"RIFF" + bytes(range(256))
ENCODED = base64.b64encode(SOUND).decode()


def request(content_type: str = "", chunks: tuple[bytes, ...] = (), pause: float = 0.0, **headers: str) -> Request:
    """Return a request whose body arrives in chunks, the last of them after a pause."""
    left = list(chunks)

    async def receive() -> dict[str, object]:
        if len(left) == 1:
            await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left)}

    fields = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    return Request({"type": "http", "method": "POST", "headers": raw, "query_string": b"", "path": "/"}, receive)


def split_body(content: bytes, content_type: str) -> Sounds:
    return asyncio.run(split(content, request(content_type), 3))


def names_and_contents(sounds: Sounds) -> list[tuple[str, bytes]]:
    return [(file.name, file.content) for file in sounds.files]


@pytest.mark.parametrize("kind", ["", "audio/wav", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_body_of_any_other_type_is_a_file(kind):
    sounds = split_body(SOUND, kind)
    assert sounds.single and names_and_contents(sounds) == [("", SOUND)]


def test_a_form_has_files_in_fields_of_any_name():
    one = split_body(*multipart({"anything": ("a.wav", SOUND)}))
    assert one.single and names_and_contents(one) == [("a.wav", SOUND)]
    two = split_body(*multipart({"x": ("a.wav", SOUND), "y": ("b.wav", b"")}))
    assert not two.single and names_and_contents(two) == [("a.wav", SOUND), ("b.wav", b"")]


def test_json_has_one_file_or_a_list():
    one = split_body(json.dumps({"audio": ENCODED}).encode(), "application/json; charset=utf-8")
    assert one.single and names_and_contents(one) == [("", SOUND)]
    listed = split_body(json.dumps({"files": [{"name": "a", "audio": ENCODED}]}).encode(), "application/json")
    assert not listed.single and names_and_contents(listed) == [("a", SOUND)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"audio": 1},
        {"audio": "*"},
        {"audio": "é"},
        {"audio": ENCODED, "more": 1},
        {"audio": ENCODED, "name": 1},
        {"files": []},
        {"files": [ENCODED]},
        {"files": [{"audio": ENCODED}], "more": 1},
    ],
)
def test_malformed_json_is_refused(value):
    with pytest.raises(Problem) as raised:
        split_body(json.dumps(value).encode(), "application/json")
    assert (raised.value.status, raised.value.reason) == (400, "malformed")


@pytest.mark.parametrize(
    ("content", "status"), [(b"[" + b"[]," * 10_000 + b"[]]", 400), (b'{"audio":"' + bytes(2**24) + b'"}', 413)]
)
def test_json_that_would_block_other_requests_is_refused(content, status):
    with pytest.raises(Problem) as raised:
        split_body(content, "application/json")
    assert raised.value.status == status


def test_other_requests_go_on_while_a_large_form_is_parsed():
    content, kind = multipart({"a": ("a.wav", b"\r" * 2**23)})

    async def count_turns() -> int:
        parsing, turns = asyncio.create_task(split(content, request(kind), 3)), 0
        while not parsing.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await parsing).files[0].content == b"\r" * 2**23
        return turns

    assert asyncio.run(count_turns()) >= 2**23 // PIECE


def test_a_body_that_arrives_in_drops_is_refused(monkeypatch):
    monkeypatch.setattr("serving.gateway.body.MIN_RATE", 100)
    reader = BodyReader(gateway_settings(read_timeout_s=0.5))

    async def read(size: int) -> bytes:
        left = 60

        async def receive() -> dict[str, object]:
            nonlocal left
            left -= 1
            await asyncio.sleep(0.025)
            return {"type": "http.request", "body": bytes(size), "more_body": left > 0}

        context = make_context("", "", "")
        with reader.buffered(context):
            return await reader.read(Request({"type": "http", "headers": []}, receive), context)

    assert len(asyncio.run(read(10))) == 600  # 400 bytes per second
    with pytest.raises(Problem) as raised:
        asyncio.run(read(1))
    assert raised.value.reason == "read_timeout"


def test_a_field_that_is_no_file_is_refused():
    body, kind = multipart({"a": ("a.wav", SOUND), "top_k": (None, b"2")})
    with pytest.raises(
        Problem, match="the field 'top_k' of the form is no file; options belong in the query"
    ) as raised:
        split_body(body, kind)
    assert (raised.value.status, raised.value.reason) == (400, "invalid_option")


def test_too_many_files_are_refused():
    for body, kind in (
        multipart({f"f{index}": ("a", SOUND) for index in range(4)}),
        (json.dumps({"files": [{"audio": ENCODED}] * 4}).encode(), "application/json"),
    ):
        with pytest.raises(Problem) as raised:
            split_body(body, kind)
        assert (raised.value.status, raised.value.reason) == (413, "too_many_files")


def test_form_without_a_file_is_refused():
    with pytest.raises(Problem, match="the form has no file"):
        split_body(b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ntext\r\n--b--\r\n', FORM)


FORM = "multipart/form-data; boundary=b"
DISPOSITION = (b"Content-Disposition: form-data", b'; name="x"', b"; filename=")
PARTS = st.lists(st.sampled_from([b"--b", b"--b--", b"\r\n", b"\n", b"\xff", *DISPOSITION]) | st.binary(max_size=20))


@given(PARTS.map(b"".join), st.sampled_from([FORM, "multipart/form-data", "multipart/form-data; boundary="]))
def test_any_form_is_split_or_refused(content, kind):
    check_split_or_refused(content, kind)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(ENCODED),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["audio", "files", "name", "x"]), inner),
    ).map(lambda value: json.dumps(value).encode())
    | st.binary()
    | st.just(b"[" * 100_000)
)
def test_any_json_is_split_or_refused(content):
    check_split_or_refused(content, "application/json")


def check_split_or_refused(content: bytes, kind: str) -> None:
    try:
        assert split_body(content, kind).files
    except Problem as problem:
        assert problem.status in (400, 413)


def read(reader: BodyReader, sent: Request) -> bytes:
    async def run() -> bytes:
        context = make_context("", "", "")
        with reader.buffered(context):
            return await reader.read(sent, context)

    return asyncio.run(run())


def test_body_is_read_within_its_limits():
    reader = BodyReader(gateway_settings(max_request_bytes=10, max_buffered_bytes=10))
    for _ in range(3):  # what a request occupied is free after it
        assert read(reader, request(chunks=(b"12345", b"67890"))) == b"1234567890"
        with pytest.raises(Problem, match="larger than 10 bytes"):
            read(reader, request(chunks=(b"12345", b"678901")))


def test_declared_size_is_refused_before_the_body_is_read():
    reader = BodyReader(gateway_settings(max_request_bytes=10))
    sent = request(chunks=(b"never read",), pause=60, content_length="11")
    with pytest.raises(Problem) as raised:
        read(reader, sent)
    assert raised.value.status == 413


def test_body_that_stops_arriving_is_refused():
    reader = BodyReader(gateway_settings(read_timeout_s=0.05))
    with pytest.raises(Problem) as raised:
        read(reader, request(chunks=(b"1", b"2"), pause=60))
    assert (raised.value.status, raised.value.headers) == (408, {"Connection": "close"})


def test_requests_at_once_share_the_memory():
    reader = BodyReader(gateway_settings(max_buffered_bytes=10))

    async def run() -> None:
        first, second = make_context("", "", ""), make_context("", "", "")
        with reader.buffered(first), reader.buffered(second):
            await reader.read(request(chunks=(b"123456",)), first)
            await reader.read(request(chunks=(b"123456",)), second)

    with pytest.raises(Problem) as raised:
        asyncio.run(run())
    assert raised.value.status == 503
    assert int(raised.value.headers["Retry-After"]) > 0
    assert read(reader, request(chunks=(b"1234567890",)))
