"""The start of the gateway."""

import socket

import pytest
from helpers.project import ROOT

from serving.gateway.__main__ import main
from serving.torchserve.client import ServingError


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} is in use; choose a free one"):
            main(ROOT / "params.yaml", [f"gateway.port={port}"])
