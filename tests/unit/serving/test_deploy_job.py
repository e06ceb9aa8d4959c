"""The Job that deploys by hand and the CronJob that reconciles have what the deploy task of a Kubeflow run has."""

import copy

import yaml
from helpers.manifests import MANIFESTS, schema_errors

from mlops.cluster import STATE_CLAIM, STATE_FOLDER, STORAGE, TRACKING, TRACKING_LOGIN
from pipeline.resources import SERVING, VERIFYING

JOB = yaml.safe_load((MANIFESTS / "deploy-job.yaml").read_text(encoding="utf-8"))
CRON_JOB = yaml.safe_load((MANIFESTS / "reconcile-cronjob.yaml").read_text(encoding="utf-8"))


def test_job_that_failed_is_not_repeated() -> None:
    assert JOB["spec"]["backoffLimit"] == 0
    assert JOB["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_job_has_the_secrets_and_the_volume_of_the_task() -> None:
    pod = JOB["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    references = {item["name"]: item["valueFrom"]["secretKeyRef"] for item in container["env"] if "valueFrom" in item}
    secrets = (TRACKING, TRACKING_LOGIN, STORAGE, SERVING, VERIFYING)
    expected = {variable: (each.name, key) for each in secrets for key, variable in each.variables.items()}
    assert {name: (found["name"], found["key"]) for name, found in references.items()} == expected
    assert {"name": "var", "mountPath": STATE_FOLDER} in container["volumeMounts"]
    assert {"name": "var", "persistentVolumeClaim": {"claimName": STATE_CLAIM}} in pod["volumes"]


def test_cron_job_runs_one_pass_at_a_time_in_the_same_pod() -> None:
    assert schema_errors(CRON_JOB) == [] and CRON_JOB["spec"]["concurrencyPolicy"] == "Forbid"
    job, cron_job = copy.deepcopy((JOB["spec"]["template"], CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]))
    arguments = [pod["spec"]["containers"][0].pop("args") for pod in (job, cron_job)]
    assert arguments == [["deploy"], ["reconcile"]] and job == cron_job
