"""The Kubernetes manifests as kubectl renders them, and what their schemas find in them."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from helpers.project import ROOT, read_json
from mlops import cluster
from pipeline.resources import VERIFYING

Manifest = dict[str, Any]
MANIFESTS = ROOT / "serving" / "kubernetes"
Overlays = Mapping[str, list[Manifest]]  # the objects of each overlay, by its name
OVERLAYS = tuple(sorted(path.name for path in (MANIFESTS / "overlays").iterdir()))
ON_CLUSTERS = ("dev", "prod")  # the overlays with everything that the pipeline needs
SCHEMAS = Path(os.environ.get("AUDIOCNN_SCHEMAS", "not-set"))
KUBERNETES = ("1.30", "1.37")  # the oldest and the newest version that the manifests are checked against
SECRETS = tuple(secret for secret in vars(cluster).values() if isinstance(secret, cluster.Secret))  # of the steps
GENERATED = "planted-credential"  # the value of a secret whose example has none


def kubectl() -> str:
    """Return the path of kubectl; without it the test is skipped."""
    found = os.environ.get("AUDIOCNN_KUBECTL") or shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl on the PATH: install it, or set AUDIOCNN_KUBECTL to it")
    return found


def checkout(folder: Path) -> Path:
    """Copy the manifests to `folder`, with secrets made from the examples; return the folder of the overlays."""
    ignored = shutil.ignore_patterns("secrets")
    shutil.copytree(MANIFESTS, folder / "serving" / "kubernetes", ignore=ignored)
    permissions = folder / "components" / "train"
    permissions.mkdir(parents=True)
    for path in (ROOT / "components" / "train").glob("*.yaml"):
        shutil.copy(path, permissions)
    overlays = folder / "serving" / "kubernetes" / "overlays"
    for overlay in overlays.iterdir():
        own, shared = overlay / "secrets.example", folder / "serving" / "kubernetes" / "secrets.example"
        secrets = shutil.copytree(own if own.is_dir() else shared, overlay / "secrets")
        for file in secrets.iterdir():
            lines = file.read_text(encoding="utf-8").splitlines()
            file.write_text("\n".join(line + GENERATED if line.endswith("=") else line for line in lines))
    return overlays


def render(overlay: Path) -> list[Manifest]:
    """Return the objects of an overlay."""
    done = subprocess.run([kubectl(), "kustomize", str(overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def schema_errors(manifest: Manifest) -> list[str]:
    """Return what the schema of its kind finds in an object; unknown fields are errors too."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    if "." not in group or group.endswith(".k8s.io"):
        return [error for version in KUBERNETES if (error := _builtin_error(manifest, version))]
    file = SCHEMAS / f"{group}_{version}_{manifest['kind']}.json"
    if not file.is_file():
        pytest.skip(f"no {file}: set AUDIOCNN_SCHEMAS to a folder with the schemas of custom resources")
    schema = read_json(file)
    found = [
        f"{error.json_path}: {error.message}" for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    ]
    return found + list(_unknown_fields(manifest, schema, manifest["kind"]))


def _builtin_error(manifest: Manifest, version: str) -> str:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
    return ""


def _unknown_fields(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the fields that a schema of a custom resource does not list; such schemas do not forbid them."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown_fields(item, schema.get("items", {}), path)
        return
    known, others = schema.get("properties"), schema.get("additionalProperties", {})
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    for name, item in value.items():
        if known and name not in known and not others:
            yield f"{path}.{name}: unknown field"
        elif known or others:
            yield from _unknown_fields(item, (known or {}).get(name, others), f"{path}.{name}")


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the name and the pod's spec of every object that starts pods."""
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if "template" in manifest.get("spec", {}):
            yield name, manifest["spec"]["template"]["spec"]
        elif manifest["kind"] == "ServingRuntime":
            yield name, manifest["spec"]


def pod_labels(manifests: list[Manifest]) -> list[dict[str, str]]:
    """Return the labels of the pods of each object that starts some."""
    templates = [item["spec"]["template"] for item in manifests if "template" in item.get("spec", {})]
    return [template["metadata"].get("labels", {}) for template in templates]


def secret_keys(manifests: list[Manifest]) -> dict[str, set[str]]:
    """Return the keys of every secret, by its name."""
    return {item["metadata"]["name"]: set(item.get("data", {})) for item in manifests if item["kind"] == "Secret"}


def secret_references(manifests: list[Manifest]) -> list[Manifest]:
    """Return which keys of which secrets the containers read."""
    values = [item.get("valueFrom", {}) for each in containers(manifests) for item in each.get("env", [])]
    return [value["secretKeyRef"] for value in values if "secretKeyRef" in value]


def missing_secret_keys(manifests: list[Manifest]) -> list[Manifest]:
    """Return the references to secrets that do not exist, or do not have the key."""
    made_from_files = {VERIFYING.name: set(VERIFYING.variables)}  # by `kubectl`, if at all: docs/registry.md
    keys = secret_keys(manifests) | made_from_files
    return [
        reference
        for reference in secret_references(manifests)
        if reference["name"] not in keys
        or not (reference.get("optional") or reference["key"] in keys[reference["name"]])
    ]


def containers(manifests: list[Manifest]) -> list[Manifest]:
    """Return all containers, init containers included."""
    specs = [spec for _, spec in pod_specs(manifests)]
    return [each for spec in specs for each in (*spec.get("initContainers", []), *spec["containers"])]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the object of this kind and name."""
    (found,) = (item for item in manifests if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found
