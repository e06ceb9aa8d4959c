"""The secrets of the manifests in serving/kubernetes: who reads which key, and that none is committed."""

import subprocess

import pytest
from helpers.manifests import (
    MANIFESTS,
    ON_CLUSTERS,
    OVERLAYS,
    SECRETS,
    Overlays,
    missing_secret_keys,
    named,
    pod_specs,
    secret_keys,
    secret_references,
)
from helpers.project import ROOT

from mlops import cluster
from serving.torchserve import variables


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_have_the_keys_that_pods_read(overlays: Overlays, overlay: str) -> None:
    assert secret_references(overlays[overlay])
    assert missing_secret_keys(overlays[overlay]) == []


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_secrets_and_claims_are_those_of_the_steps(overlays: Overlays, overlay: str) -> None:
    manifests, secrets = overlays[overlay], secret_keys(overlays[overlay])
    for secret in SECRETS:
        assert secret.name in secrets
        assert secret.optional or set(secret.variables) <= secrets[secret.name]
    assert set(variables.SECRET_KEYS) == secrets[variables.SECRET]
    assert named(manifests, "PersistentVolumeClaim", cluster.STATE_CLAIM)["spec"]["accessModes"] == ["ReadWriteMany"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for _, spec in pod_specs(manifests)
        for volume in spec.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert claims == {cluster.STATE_CLAIM}


def test_examples_name_only_keys_that_are_read(overlays: Overlays) -> None:
    read = {key for secret in SECRETS for key in secret.variables} | set(variables.SECRET_KEYS) | {"dvc-remote"}
    read |= {reference["key"] for reference in secret_references(overlays["dev"])}
    for file in (MANIFESTS / "secrets.example").iterdir():
        pairs = [line.lstrip("#").partition("=") for line in file.read_text().splitlines() if "=" in line]
        assert {key for key, _, _ in pairs} <= read, file.name


def test_secrets_are_never_committed() -> None:
    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT).returncode == 0

    for overlay in OVERLAYS:
        assert ignored(f"serving/kubernetes/overlays/{overlay}/secrets/s3.env")
    assert not ignored("serving/kubernetes/secrets.example/s3.env")
    for file in MANIFESTS.rglob("secrets.example/*.env"):
        for line in file.read_text().splitlines():
            key, _, value = line.partition("=")
            secret = key.endswith(("key", "keys", "password", "KEY", "key-id", "KEY_ID"))
            assert line.startswith("#") or not (secret and value), f"{file.name}: {key} has a value"
