"""The TorchServes behind the addresses of the settings: one, or the replicas behind a headless Service."""

import ipaddress
import socket
from urllib.parse import urlsplit

from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.settings import TorchServeSettings

INFERENCE_PORT = 8080  # of a replica, if deploy.inference has none


def resolve(host: str) -> list[str]:
    """Return the IPv4 addresses of a host, sorted; TorchServe listens at no others."""
    found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


def find_replicas(settings: TorchServeSettings) -> list[TorchServeClient]:
    """Return a client of every TorchServe that the management address names.

    An IP address, localhost or an https address is one TorchServe. Another host name is that of a headless Service:
    each of its A records is a replica, whose inference API has the port of `deploy.inference`.

    Raises:
        ServingError: the name cannot be resolved.
    """
    url = urlsplit(settings.management)
    host = str(url.hostname)
    if url.scheme == "https" or host == "localhost" or _is_ip_address(host):
        return [TorchServeClient.from_settings(settings)]
    try:
        addresses = resolve(host)
    except OSError as error:
        raise ServingError(
            f"deploy.management: {host} cannot be resolved ({error.strerror}); check that the Service exists and has "
            "pods"
        ) from error
    inference, management = urlsplit(settings.inference).port or INFERENCE_PORT, url.port or 80
    return [
        TorchServeClient.from_settings(
            settings.replace(inference=f"http://{address}:{inference}", management=f"http://{address}:{management}")
        )
        for address in addresses
    ]


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
