"""The Job that deploys by hand has what the deploy task of a Kubeflow run has; test_kubernetes.py checks the rest."""

import yaml
from helpers.manifests import MANIFESTS

from mlops.cluster import STATE_CLAIM, STATE_FOLDER, STORAGE, TRACKING, TRACKING_LOGIN
from pipeline.resources import SERVING

JOB = yaml.safe_load((MANIFESTS / "deploy-job.yaml").read_text(encoding="utf-8"))


def test_job_that_failed_is_not_repeated() -> None:
    assert JOB["spec"]["backoffLimit"] == 0
    assert JOB["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_job_has_the_secrets_and_the_volume_of_the_task() -> None:
    pod = JOB["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    references = {item["name"]: item["valueFrom"]["secretKeyRef"] for item in container["env"] if "valueFrom" in item}
    secrets = (TRACKING, TRACKING_LOGIN, STORAGE, SERVING)
    expected = {variable: (each.name, key) for each in secrets for key, variable in each.variables.items()}
    assert {name: (found["name"], found["key"]) for name, found in references.items()} == expected
    assert {"name": "var", "mountPath": STATE_FOLDER} in container["volumeMounts"]
    assert {"name": "var", "persistentVolumeClaim": {"claimName": STATE_CLAIM}} in pod["volumes"]
