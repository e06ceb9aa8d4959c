"""The manifests in serving/kubernetes: schemas, and what schemas cannot check."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from helpers.containers import image_of
from helpers.manifests import (
    MANIFESTS,
    ON_CLUSTERS,
    OVERLAYS,
    Manifest,
    Overlays,
    checkout,
    containers,
    missing_secret_keys,
    named,
    pod_labels,
    pod_specs,
    render,
    schema_errors,
)
from helpers.project import ROOT

from mlops import cluster
from mlops.image import IMAGE
from mlops.settings import parse_overrides, resolve
from serving.gateway.__main__ import SET_VARIABLE
from serving.gateway.authentication import KEYS
from serving.gateway.context import make_context
from serving.gateway.metrics import Metrics
from serving.gateway.settings import GatewaySettings, torchserve_settings
from serving.torchserve import variables

WITH_KSERVE = tuple(name for name in OVERLAYS if name.startswith("kserve"))
USERS = {10001, 999}  # of the project's images, and of PostgreSQL's

NO_SIDECAR = {"sidecar.istio.io/inject": "false"}

METRIC = re.compile(r"audiocnn_gateway_\w+")


def is_custom(manifest: Manifest) -> bool:
    return manifest["apiVersion"].endswith(("kserve.io/v1beta1", "kserve.io/v1alpha1", "coreos.com/v1"))


def selects(selector: Mapping[str, str], labels: list[dict[str, str]]) -> bool:
    return any(selector.items() <= each.items() for each in labels)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_built_in_kinds_match_their_schemas(overlays: Overlays, overlay: str) -> None:
    manifests = [manifest for manifest in overlays[overlay] if not is_custom(manifest)]
    assert manifests and [error for manifest in manifests for error in schema_errors(manifest)] == []


@pytest.mark.parametrize("overlay", ["prod", *WITH_KSERVE])
def test_custom_kinds_match_their_schemas(overlays: Overlays, overlay: str) -> None:
    manifests = [manifest for manifest in overlays[overlay] if is_custom(manifest)]
    assert manifests and [error for manifest in manifests for error in schema_errors(manifest)] == []


@pytest.mark.parametrize(
    ("overlay", "kind", "name", "path", "value"),
    [
        ("dev", "Deployment", "audiocnn-torchserve", ("spec", "replica"), 2),
        ("dev", "Deployment", "audiocnn-torchserve", ("spec", "replicas"), "two"),
        ("dev", "NetworkPolicy", "audiocnn-torchserve", ("spec", "ingres"), []),
        ("prod", "ServiceMonitor", "audiocnn-torchserve", ("spec", "endpoint"), []),
        ("prod", "ServiceMonitor", "audiocnn-torchserve", ("spec", "endpoints", 0, "prot"), "metrics"),
        ("kserve", "InferenceService", "audiocnn", ("spec", "predictor", "model", "storageURI"), "s3://b/p"),
        ("kserve-canary", "InferenceService", "audiocnn", ("spec", "canary", 0, "trafficPercent"), 101),
        ("kserve", "ServingRuntime", "audiocnn-torchserve", ("spec", "containers", 0, "imagename"), "a"),
    ],
)
def test_a_wrong_field_is_found(
    overlays: Overlays, overlay: str, kind: str, name: str, path: tuple[str | int, ...], value: object
) -> None:
    manifest = copy.deepcopy(named(overlays[overlay], kind, name))
    parent = manifest
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    assert schema_errors(manifest) != []


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_selectors_match_pods(overlays: Overlays, overlay: str) -> None:
    manifests, labels = overlays[overlay], pod_labels(overlays[overlay])
    services = [manifest for manifest in manifests if manifest["kind"] == "Service"]
    for manifest in manifests:
        spec, kind = manifest.get("spec", {}), manifest["kind"]
        if kind == "Service":
            assert selects(spec["selector"], labels), manifest["metadata"]["name"]
        elif kind in ("Deployment", "StatefulSet"):
            assert selects(spec["selector"]["matchLabels"], [spec["template"]["metadata"]["labels"]])
        elif kind in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = spec["selector"] if kind == "PodDisruptionBudget" else spec["podSelector"]
            assert selects(selector["matchLabels"], labels), manifest["metadata"]["name"]
        elif kind == "ServiceMonitor":
            (watched,) = (
                item for item in services if selects(spec["selector"]["matchLabels"], [item["metadata"]["labels"]])
            )
            assert {point["port"] for point in spec["endpoints"]} <= {port["name"] for port in watched["spec"]["ports"]}


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_services_lead_to_ports_of_containers(overlays: Overlays, overlay: str) -> None:
    ports = {
        port["name"]: port["containerPort"] for each in containers(overlays[overlay]) for port in each.get("ports", [])
    }
    services = [manifest for manifest in overlays[overlay] if manifest["kind"] == "Service"]
    for port in (port for service in services for port in service["spec"]["ports"]):
        assert ports[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_pods_get_no_proxy_of_istio(overlays: Overlays, overlay: str) -> None:
    assert all(NO_SIDECAR.items() <= labels.items() for labels in pod_labels(overlays[overlay]))


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_only_deploy_reaches_the_management_port(overlays: Overlays, overlay: str) -> None:
    server = named(overlays[overlay], "Deployment", variables.SERVICE)
    labels = server["spec"]["template"]["metadata"]["labels"]
    ports = {
        port["name"]: port["containerPort"] for port in server["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    policies = [
        manifest["spec"]
        for manifest in overlays[overlay]
        if manifest["kind"] == "NetworkPolicy" and selects(manifest["spec"]["podSelector"]["matchLabels"], [labels])
    ]
    assert policies and all("Ingress" in policy["policyTypes"] for policy in policies)
    rules = [rule for policy in policies for rule in policy["ingress"]]
    assert all(rule["ports"] for rule in rules), "a rule without ports allows all"
    reaching = [rule for rule in rules if ports["management"] in {port["port"] for port in rule["ports"]}]
    key, value = variables.DEPLOY_LABEL
    assert [rule["from"] for rule in reaching] == [[{"podSelector": {"matchLabels": {key: value}}}]]


def test_deploy_finds_the_services(overlays: Overlays) -> None:
    for overlay in ON_CLUSTERS:
        clients = named(overlays[overlay], "Service", variables.SERVICE)
        assert {port["name"] for port in clients["spec"]["ports"]} == {"inference", "metrics"}
        replicas = named(overlays[overlay], "Service", variables.REPLICAS_SERVICE)
        assert {port["name"] for port in replicas["spec"]["ports"]} == {"inference", "management"}
        assert replicas["spec"]["clusterIP"] == "None" and replicas["spec"]["publishNotReadyAddresses"]


def assert_restricted(manifests: list[Manifest]) -> None:
    for name, spec in pod_specs(manifests):
        pod = spec.get("securityContext", {})
        for container in spec["containers"]:
            context = {**pod, **container["securityContext"]}
            assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"]["memory"] and container["resources"]["limits"]["memory"], name
            if name != "ServingRuntime audiocnn-torchserve":  # there, the InferenceService sets the user
                assert context["runAsUser"] in USERS and context["runAsUser"] == context["runAsGroup"], name
                assert spec.get("automountServiceAccountToken") is False, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_container_has_privileges(overlays: Overlays, overlay: str) -> None:
    assert_restricted(overlays[overlay])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_torchserve_writes_to_volumes_only(overlays: Overlays, overlay: str) -> None:
    serving = [each for each in containers(overlays[overlay]) if "audiocnn-serving:" in each["image"]]
    servers = [each for each in serving if each["name"] != "gateway"]
    assert len(servers) == 1
    environment = {variable["name"]: variable.get("value") for variable in servers[0]["env"]}
    mounted = {mount["mountPath"] for mount in servers[0]["volumeMounts"] if not mount.get("readOnly")}
    assert mounted == {environment[variables.STATE], "/tmp"}
    assert servers[0]["readinessProbe"]["exec"]["command"] == ["python", "-m", "serving.torchserve.ready"]


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_the_gateway_sends_requests_to_torchserve(overlays: Overlays, overlay: str) -> None:
    deployment = named(overlays[overlay], "Deployment", "audiocnn-gateway")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    resolved = resolve(ROOT / "params.yaml", parse_overrides(environment[SET_VARIABLE].split()))
    settings, torchserve = resolved.block("gateway", GatewaySettings), torchserve_settings(resolved)
    assert {KEYS, variables.INFERENCE_KEYS} < set(environment)
    assert (settings.host, settings.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert torchserve.inference == f"http://{variables.SERVICE}:8080"
    policy = named(overlays[overlay], "NetworkPolicy", "audiocnn-gateway")["spec"]
    (reached,) = [rule["to"] for rule in policy["egress"] if "to" in rule]
    assert selects(reached[0]["podSelector"]["matchLabels"], pod_labels(overlays[overlay]))


def test_alerts_and_dashboard_use_metrics_that_the_gateway_has(overlays: Overlays) -> None:
    rules = named(overlays["prod"], "PrometheusRule", "audiocnn-gateway")["spec"]["groups"][0]["rules"]
    dashboard = json.loads(named(overlays["prod"], "ConfigMap", "audiocnn-dashboard")["data"]["dashboard.json"])
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for query in [*queries, *(rule["expr"] for rule in rules)] for name in METRIC.findall(query)}
    metrics = Metrics()
    metrics.record("/classify", 200, 0.1, make_context("", "", ""))
    metrics.answers.labels("1", "rain").inc()
    metrics.refusals.labels("silent").inc()
    assert used and used <= set(METRIC.findall(metrics.text().decode()))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_those_that_the_project_builds(overlays: Overlays, overlay: str) -> None:
    built = {image_of(target) for target in ("pipeline", "serving", "mlflow")}
    images = {each["image"] for each in containers(overlays[overlay])}
    assert images & built and images - built <= {"docker.io/library/postgres:17-bookworm"}


@pytest.mark.parametrize("overlay", ON_CLUSTERS)
def test_permissions_are_bound_in_the_namespace(overlays: Overlays, overlay: str) -> None:
    bindings = [item for item in overlays[overlay] if item["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    subjects = [subject for binding in bindings for subject in binding["subjects"]]
    assert len(bindings) == 2 and {subject["namespace"] for subject in subjects} == {f"audiocnn-{overlay}"}
    namespaced = [item for item in overlays[overlay] if not item["kind"].startswith("ClusterRole")]
    assert {item["metadata"]["namespace"] for item in namespaced} == {f"audiocnn-{overlay}"}


def test_overlays_share_no_name_outside_of_their_namespaces(overlays: Overlays) -> None:
    names = [
        {item["metadata"]["name"] for item in overlays[overlay] if item["kind"] == "ClusterRoleBinding"}
        for overlay in ON_CLUSTERS
    ]
    assert all(names) and not set.intersection(*names)


def test_the_shared_volume_takes_the_place_of_s3(tmp_path: Path) -> None:
    overlay = checkout(tmp_path) / "prod"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("  - ../../monitoring\n", "  - ../../shared-volume\n"))
    server = named(render(overlay), "Deployment", variables.SERVICE)
    assert schema_errors(server) == []
    (container,) = server["spec"]["template"]["spec"]["containers"]
    assert {"name": "shared", "mountPath": cluster.STATE_FOLDER, "readOnly": True} in container["volumeMounts"]


def test_the_job_that_deploys_by_hand_fits_the_overlays(overlays: Overlays) -> None:
    job = yaml.safe_load((MANIFESTS / "deploy-job.yaml").read_text(encoding="utf-8"))
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "1"
    assert schema_errors(job) == []
    assert_restricted([job])
    assert {each["image"] for each in containers([job])} == {IMAGE}
    key, value = variables.DEPLOY_LABEL
    assert job["spec"]["template"]["metadata"]["labels"] == {key: value, **NO_SIDECAR}
    assert missing_secret_keys([job, *overlays["dev"]]) == []
