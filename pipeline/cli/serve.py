"""The command serve: TorchServe and the gateway, restarted if one ends or hangs."""

import typer

from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings


def serve(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Run TorchServe and the gateway until Ctrl-C, and restart one that ends or hangs. Serves what was deployed last.

    `audiocnn deploy` starts the same in the background. With deploy.start=false, only the gateway is run.
    """
    from serving.supervision.endpoint import Endpoint
    from serving.supervision.supervisor import supervise

    settings = load_settings(params, set_)
    deploy = settings.deploy.in_this_environment()
    endpoint = Endpoint(deploy, settings.gateway, settings.decode, settings.register.name)
    supervise(endpoint, with_torchserve=deploy.start)
    typer.echo("[serve] stopped")
