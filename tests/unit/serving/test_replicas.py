"""Which TorchServes the addresses of the settings name."""

import socket

import pytest
from helpers.torchserve import deploy_settings

from serving.torchserve import replicas
from serving.torchserve.client import ServingError
from serving.torchserve.replicas import find_replicas


def found(tmp_path, inference: str, management: str) -> list[tuple[str, str]]:
    settings = deploy_settings(tmp_path, start=False, inference=inference, management=management)
    return [(client.inference, client.management) for client in find_replicas(settings)]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.7"])
def test_plain_address_is_one_server(tmp_path, monkeypatch, host):
    monkeypatch.setattr(replicas, "resolve", lambda host: pytest.fail(f"{host} was resolved"))
    addresses = (f"http://{host}:9080", f"http://{host}:9081")
    assert found(tmp_path, *addresses) == [addresses]


def test_https_address_is_one_server_whose_certificate_has_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(replicas, "resolve", lambda host: pytest.fail(f"{host} was resolved"))
    addresses = ("https://sounds.example.org", "https://manage.example.org")
    assert found(tmp_path, *addresses) == [addresses]


@pytest.mark.parametrize(("inference", "port"), [("http://sounds:9080", 9080), ("https://sounds.example.org", 8080)])
def test_name_stands_for_all_of_its_addresses(tmp_path, monkeypatch, inference, port):
    monkeypatch.setattr(replicas, "resolve", lambda host: {"replicas": ["10.0.0.7", "10.0.0.8"]}[host])
    assert found(tmp_path, inference, "http://replicas:8081") == [
        (f"http://{address}:{port}", f"http://{address}:8081") for address in ("10.0.0.7", "10.0.0.8")
    ]


def test_addresses_are_sorted_and_unique(monkeypatch):
    def lookup(host: str, *_: object) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{last}", 0)) for last in (8, 7, 8)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert replicas.resolve("replicas") == ["10.0.0.7", "10.0.0.8"]


def test_unknown_name_is_reported(tmp_path):
    with pytest.raises(ServingError, match=r"deploy\.management: replicas\.invalid cannot be resolved \("):
        found(tmp_path, "http://sounds.invalid:8080", "http://replicas.invalid:8081")
