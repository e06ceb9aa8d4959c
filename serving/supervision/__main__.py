"""Run the endpoint with the settings of params.yaml: `python -m serving.supervision`, as `audiocnn deploy` does."""

from audiocnn.config import DecodeSettings
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.runtime import sigterm_as_interrupt
from mlops.settings import PARAMS
from serving.gateway.settings import GatewaySettings, model_name, torchserve_settings
from serving.supervision.endpoint import Endpoint
from serving.supervision.supervisor import supervise


def main(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Run TorchServe and the gateway until this process is stopped."""
    resolved = resolve_options(params, set_)
    gateway = resolved.block("gateway", GatewaySettings)
    decode = resolved.block("decode", DecodeSettings)
    with sigterm_as_interrupt():
        supervise(Endpoint(torchserve_settings(resolved), gateway, decode, model_name(resolved)))


if __name__ == "__main__":
    run(main)
