"""Where a deploy goes: a TorchServe of this machine, or those of the cluster."""

import pytest
from helpers.torchserve import deploy_settings

from audiocnn.strict_model import SettingsError


def test_environment_with_a_model_store_deploys_to_the_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "training-xyz")
    monkeypatch.setenv("AUDIOCNN_MODEL_STORE", "s3://bucket/models")
    before = deploy_settings(tmp_path, workers=3)
    settings = before.in_this_environment()
    assert not settings.start
    assert settings.inference == "http://audiocnn-torchserve:8080"
    assert settings.management == "http://audiocnn-torchserve-replicas:8081"
    assert (settings.model_store_address, settings.workers) == ("s3://bucket/models", 3)


def test_kubeflow_task_starts_no_torchserve(tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIOCNN_MODEL_STORE", raising=False)
    monkeypatch.setenv("KFP_POD_NAME", "training-xyz")
    with pytest.raises(SettingsError, match=r"a task of Kubeflow cannot start.*secret audiocnn-torchserve"):
        deploy_settings(tmp_path).in_this_environment()


def test_addresses_of_the_settings_are_kept_if_start_is_false(tmp_path, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "training-xyz")
    monkeypatch.setenv("AUDIOCNN_MODEL_STORE", "s3://bucket/models")
    settings = deploy_settings(tmp_path, start=False, model_store="/models")
    assert settings.in_this_environment() == settings
    assert settings.model_store_address == "/models"


def test_laptop_starts_one_with_a_model_store_in_its_state(tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIOCNN_MODEL_STORE", raising=False)
    settings = deploy_settings(tmp_path)
    assert settings.in_this_environment() == settings
    assert settings.model_store_address == str(tmp_path / "model-store")


def test_server_that_is_started_here_has_its_own_model_store(tmp_path):
    with pytest.raises(SettingsError, match=r"deploy\.model_store: needs deploy\.start=false.*found s3://bucket"):
        deploy_settings(tmp_path, model_store="s3://bucket")
