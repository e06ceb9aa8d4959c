"""The Job that deploys by hand has what the deploy task of a Kubeflow run has."""

import kubernetes_validate
import pytest
import yaml
from helpers.manifests import KUBERNETES, MANIFESTS

from mlops.cluster import STORAGE, TRACKING, TRACKING_LOGIN
from mlops.image import IMAGE
from pipeline.resources import SERVING
from serving.torchserve.variables import DEPLOY_LABEL

JOB = yaml.safe_load((MANIFESTS / "deploy-job.yaml").read_text(encoding="utf-8"))
POD = JOB["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_job_is_valid(version):
    kubernetes_validate.validate(JOB, version, strict=True)


def test_job_has_the_secrets_and_the_label_of_the_task():
    found = {
        item["name"]: (item["valueFrom"]["secretKeyRef"]["name"], item["valueFrom"]["secretKeyRef"]["key"])
        for item in CONTAINER["env"]
        if "valueFrom" in item
    }
    secrets = (TRACKING, TRACKING_LOGIN, STORAGE, SERVING)
    expected = {variable: (each.name, key) for each in secrets for key, variable in each.variables.items()}
    assert found == expected
    assert tuple(POD["metadata"]["labels"].items()) == (DEPLOY_LABEL,)
    assert CONTAINER["image"] == IMAGE


def test_job_runs_without_privileges():
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    assert not POD["spec"]["automountServiceAccountToken"]
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert CONTAINER["securityContext"]["capabilities"] == {"drop": ["ALL"]}
