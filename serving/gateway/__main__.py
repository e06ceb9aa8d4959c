"""Start the gateway: `python -m serving.gateway`, with the settings of params.yaml.

A container sets them with the variable AUDIOCNN_GATEWAY_SET, KEY=VALUE separated by spaces, as with `--set`.
"""

from typing import Annotated

import typer
import uvicorn

from audiocnn.config import DecodeSettings
from mlops.command_line import ParamsOption, resolve_options, run
from mlops.process import is_port_free
from mlops.settings import PARAMS
from serving.gateway import logs
from serving.gateway.app import create_app
from serving.gateway.authentication import configured_keys
from serving.gateway.protocol import IDLE_TIMEOUT, TimedProtocol
from serving.gateway.service import Gateway
from serving.gateway.settings import GatewaySettings, model_name, torchserve_settings
from serving.torchserve.client import ServingError

MAX_CONNECTIONS = 900  # most systems let a process have 1024 files; connections to TorchServe and decoders need some
SET_VARIABLE = "AUDIOCNN_GATEWAY_SET"


def main(
    params: ParamsOption = PARAMS,
    assignments: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", envvar=SET_VARIABLE, help="Override one key. Repeatable."),
    ] = [],  # noqa: B006  typer copies it
) -> None:
    """Answer clients until this process is stopped."""
    resolved = resolve_options(params, assignments)
    settings = resolved.block("gateway", GatewaySettings)
    gateway = Gateway(
        settings,
        resolved.block("decode", DecodeSettings),
        torchserve_settings(resolved),
        model_name(resolved),
        configured_keys(settings),
    )
    if not is_port_free(settings.port):  # uvicorn would end with status 3, and say it in the log only
        raise ServingError(f"gateway.port: port {settings.port} is in use; choose a free one: --set gateway.port=8001")
    logs.configure()
    uvicorn.run(
        create_app(gateway),
        host=settings.host,
        port=settings.port,
        http=TimedProtocol,
        ws="none",  # nothing here speaks WebSocket, whose connections would have none of these limits
        timeout_keep_alive=IDLE_TIMEOUT,
        limit_concurrency=MAX_CONNECTIONS,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a client could choose its address
        server_header=False,
    )


if __name__ == "__main__":
    run(main)
