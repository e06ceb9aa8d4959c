"""What `audiocnn doctor` says about a TorchServe that runs."""

import pytest

from pipeline.checks import services
from pipeline.settings import PipelineSettings

pytestmark = pytest.mark.xdist_group("torchserve")


def test_a_running_torchserve_is_described(running, tiny: PipelineSettings) -> None:
    settings = tiny.replace(deploy=running.settings, register=tiny.register.replace(name="sounds"))
    (check,) = services.check_torchserve(settings)
    assert check.level == "ok"
    assert check.message == f"{running.settings.inference}: Healthy, serves sounds version 1"


def test_a_torchserve_without_the_model_is_a_warning(running, tiny: PipelineSettings) -> None:
    (check,) = services.check_torchserve(tiny.replace(deploy=running.settings))
    assert check.level == "warning" and "serves no version of audiocnn" in check.message


def test_a_refused_key_is_a_failure(running, tiny: PipelineSettings, tmp_path) -> None:
    from pipeline.checks import run_checks

    deploy = running.settings.replace(start=False, state=str(tmp_path))
    found = {check.name: check for check in run_checks(tiny.replace(deploy=deploy))}
    assert found["TorchServe"].level == "failure" and "key" in found["TorchServe"].message
