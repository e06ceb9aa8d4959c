"""The client of the gateway with servers that misbehave."""

from pathlib import Path

import pytest
from helpers.responses import CLOSED, problem, responding

from serving.gateway import client as module
from serving.gateway.client import GatewayClient, GatewayError

KEY = "k" * 32
OK = (200, {}, {"label": "rain"})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are left out."""
    found: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", found.append)
    return found


def test_a_busy_or_restarted_gateway_is_asked_again(pauses):
    responses = (
        problem(429, "rate_limited", Retry_After="7"),
        problem(503, "unavailable", Retry_After="900"),
        CLOSED,
        (502, {}, "<html>a proxy"),
        OK,
    )
    with responding(*responses) as server:
        assert GatewayClient(f"{server.url}/path/").classify(b"sound", windows="true") == OK[2]
    assert server.requests == [("/path/classify?windows=true", "")] * len(responses)
    assert pauses == [7.0, 60.0, 1.0, 1.0]


def test_https_to_a_gateway_that_speaks_http_is_explained(pauses, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with responding(OK) as server, pytest.raises(GatewayError, match=r"cannot be reached \(.*\): check the address;"):
        GatewayClient(server.url.replace("http:", "https:")).classify(b"sound")


def test_after_a_vain_wait_requests_are_sent_once_until_one_is_answered(pauses, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with responding(problem(503, "unavailable")) as server:
        client = GatewayClient(server.url)
        with pytest.raises(GatewayError, match="one sentence") as raised:
            client.classify(b"sound")
        assert (raised.value.reason, raised.value.status) == ("unavailable", 503) and pauses
        count = len(server.requests)
        with pytest.raises(GatewayError):
            client.classify(b"sound")
        assert len(server.requests) == count + 1
        server.responses = [OK, problem(503, "unavailable"), OK]
        assert client.classify(b"sound") == client.classify(b"sound") == OK[2]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (problem(422, "silent"), r": one sentence \(HTTP 422\)$"),
        (problem(401, "unauthorized"), "needs a key: set the environment variable AUDIOCNN_KEY"),
        (problem(403, "forbidden"), "refuses the key in the environment variable AUDIOCNN_KEY"),
        ((404, {}, "<html>"), "not an answer of the gateway .Not Found.; check the address"),
        (
            (301, {"Location": "https://sounds.example.org/"}, ""),
            "not an answer of the gateway .https://sounds.example.org/",
        ),
        ((200, {}, "[1]"), "not an answer of the gateway"),
    ],
)
def test_a_refusal_is_one_sentence_and_is_not_repeated(pauses, response, message):
    with responding(response) as server, pytest.raises(GatewayError, match=message) as raised:
        GatewayClient(server.url, KEY).classify(b"sound")
    assert server.requests == [("/classify", f"Bearer {KEY}")] and not pauses
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)


def test_a_key_with_a_space_is_refused_without_showing_it():
    with pytest.raises(GatewayError, match="AUDIOCNN_KEY: contains a space") as raised:
        GatewayClient("http://127.0.0.1", "secret key")
    assert "secret" not in str(raised.value)


def test_this_machine_is_not_asked_through_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with responding(OK) as server:
        assert GatewayClient(server.url).classify(b"sound") == OK[2]


def test_a_password_of_netrc_does_not_replace_the_key(monkeypatch, tmp_path: Path):
    (tmp_path / "netrc").write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with responding(OK, address="127.0.0.2") as server:  # not known as this machine
        for key, header in ((KEY, f"Bearer {KEY}"), ("", "")):
            GatewayClient(server.url, key).classify(b"sound")
            assert server.requests[-1] == ("/classify", header)
