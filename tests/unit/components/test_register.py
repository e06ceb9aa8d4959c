"""The step register: a self-contained package, one version per model, and mismatched inputs refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import registry as make
from helpers.networks import small_network
from helpers.project import ROOT, read_json

from audiocnn import audio
from audiocnn.classifier import Classifier, ModelError
from components.register import card, component
from components.register.step import RegisterError, register
from mlops import tracking
from mlops.artifacts import ArtifactError, DatasetRecord, Metrics, ModelFolder, RegistrationFolder, VersionRecord
from mlops.register_settings import RegisterSettings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data: make.Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_model(tmp_path_factory.mktemp("model") / "model", data)


@pytest.fixture(scope="module")
def evaluation(model: Path, data: make.Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_evaluation(tmp_path_factory.mktemp("evaluation") / "evaluation", model, data, correct=30)


def test_a_version_has_card_lineage_and_alias(model: Path, evaluation: Path, data: make.Data, tmp_path: Path) -> None:
    made = register(model, evaluation, data.dataset, RegisterSettings(name="lineage"), tmp_path / "registration")
    record = RegistrationFolder(tmp_path / "registration").record()
    assert record == VersionRecord(name="lineage", version=1, run_id=ModelFolder(model).run().run_id)
    client = tracking.connect().client
    kept = client.get_model_version("lineage", "1")
    assert kept.aliases == ["challenger"] and kept.run_id == record.run_id == made.run_id
    assert kept.tags == {
        "validation_status": "pending",
        "dataset": f"demo {data.digest[:12]}",
        "git_revision": "0" * 12,
    }
    registration = tracking.read_records(made).registration
    assert registration is not None and registration.dataset.digest == data.digest
    assert registration.weights_sha256 == Classifier.load(model).weights_sha256 == tracking.recorded_weights(made)
    assert registration.code_digest == client.get_run(made.run_id).data.tags["code_digest"]
    assert registration.training == Classifier.load(model).provenance
    for fact in (
        data.digest,
        "75.0 % (95 % interval 59.8 to 85.8 %)",
        "dog, rain, sea_waves",
        "except test fold 2",
        record.run_id,
    ):
        assert fact in kept.description
    assert kept.description.endswith(RegistrationFolder(tmp_path / "registration").page.read_text())
    assert kept.description.startswith("Not decided yet")
    assert {file.path for file in client.list_artifacts(made.run_id, "dataset")} == {
        "dataset/report.html",
        "dataset/findings.csv",
    }
    package = client.get_logged_model(kept.source.removeprefix("models:/"))
    assert package.status == "READY" and {metric.key: metric.value for metric in package.metrics}["accuracy"] == 0.75
    outputs = client.get_run(made.run_id).outputs.model_outputs
    assert package.model_id in [output.model_id for output in outputs]


def test_the_same_model_keeps_its_version_and_another_gets_the_next(
    model: Path, evaluation: Path, data: make.Data, tmp_path: Path
) -> None:
    settings = RegisterSettings(name="counted")
    first = register(model, evaluation, data.dataset, settings, tmp_path / "first")
    again = register(model, evaluation, data.dataset, settings, tmp_path / "again")
    assert (first.number, again.number) == (1, 1)
    other = make.write_model(tmp_path / "other", data, seed=1)
    evaluation_ = make.write_evaluation(tmp_path / "evaluation_", other, data, correct=20)
    assert register(other, evaluation_, data.dataset, settings, tmp_path / "second").number == 2
    challenger = tracking.version_by_alias("counted", "challenger")
    assert challenger is not None and challenger.number == 2


ASK = """
import json, sys
import mlflow, pandas
package = mlflow.pyfunc.load_model("models:/answering@challenger")
clips = pandas.DataFrame({"audio": [open(path, "rb").read() for path in sys.argv[1:]]})
answer = package.predict(clips)
import audiocnn
example = package.predict(package.input_example)
print(json.dumps({"answer": answer.to_dict("list"), "library": audiocnn.__file__, "example": len(example),
                  "columns": package.metadata.signature.outputs.input_names()}))
"""


@pytest.mark.slow
def test_the_package_predicts_as_the_classifier_in_another_process(
    model: Path, evaluation: Path, data: make.Data, tmp_path: Path
) -> None:
    register(model, evaluation, data.dataset, RegisterSettings(name="answering"), tmp_path / "registration")
    files = [data.dataset / "audio" / f"{number}.wav" for number in (20, 21)]
    # In another process and directory, only the files of the package are available.
    command = [sys.executable, "-c", ASK, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert not Path(answer["library"]).is_relative_to(ROOT)
    classifier = Classifier.load(model)
    waveforms = torch.from_numpy(np.stack([audio.load(file, make.SETTINGS) for file in files]))
    expected = classifier.classify(waveforms).numpy()
    for index, name in enumerate(make.CLASSES):
        np.testing.assert_allclose(answer["answer"][f"p:{name}"], expected[:, index], rtol=0, atol=1e-6)
    assert answer["answer"]["class"] == [make.CLASSES[index] for index in expected.argmax(axis=1)]
    assert answer["answer"]["label"] == answer["answer"]["class"]  # the model is not calibrated
    assert answer["columns"] == ["class", "label", "confidence", *(f"p:{name}" for name in make.CLASSES)]
    assert answer["example"] == 1


def test_the_package_contains_no_pickles(model: Path, evaluation: Path, data: make.Data, tmp_path: Path) -> None:
    import mlflow
    import yaml

    register(model, evaluation, data.dataset, RegisterSettings(name="unpickled"), tmp_path / "registration")
    place = tracking.connect().client.get_model_version_download_uri("unpickled", "1")
    package = Path(mlflow.artifacts.download_artifacts(place, dst_path=str(tmp_path / "package")))
    files = [path for path in package.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc")]
    # Pickles of protocol 2 and above start with this byte.
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]
    flavor = yaml.safe_load((package / "MLmodel").read_text())["flavors"]["python_function"]
    assert "python_model" not in flavor and flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    pinned = (package / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in pinned) and any(
        line.startswith("torch==") for line in pinned
    )


def test_an_evaluation_of_another_model_is_refused(model: Path, data: make.Data, tmp_path: Path) -> None:
    other = make.write_model(tmp_path / "other", data, seed=5)
    evaluation_ = make.write_evaluation(tmp_path / "evaluation_", other, data, correct=40)
    with pytest.raises(RegisterError, match="is the evaluation of another model"):
        register(model, evaluation_, data.dataset, RegisterSettings(name="other-model"), tmp_path / "registration")
    assert not (tmp_path / "registration").exists()
    assert tracking.version_by_alias("other-model", "challenger") is None


def test_another_data_set_is_refused(model: Path, evaluation: Path, tmp_path: Path) -> None:
    other = make.write_data(tmp_path / "other")
    described = read_json(other.dataset / "dataset.json") | {"digest": "f" * 64}
    (other.dataset / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(
        RegisterError, match=r"was trained on another data set \(digest .*, this one has ffffffffffff\)"
    ):
        register(model, evaluation, other.dataset, RegisterSettings(name="other-data"), tmp_path / "registration")


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "accuracy: should be a finite number"), (None, "accuracy: should be a valid number")],
)
def test_metrics_without_a_finite_number_are_refused(
    value: float | None, words: str, model: Path, data: make.Data, tmp_path: Path
) -> None:
    evaluation = make.write_evaluation(tmp_path / "evaluation", model, data, correct=30)
    metrics = read_json(evaluation / "metrics.json") | {"accuracy": value}
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ArtifactError, match=words):
        register(model, evaluation, data.dataset, RegisterSettings(name="nan"), tmp_path / "registration")
    assert tracking.version_by_alias("nan", "challenger") is None


def test_an_incomplete_model_folder_is_refused(model: Path, evaluation: Path, data: make.Data, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json is missing"):
        register(tmp_path, evaluation, data.dataset, RegisterSettings(name="empty"), tmp_path / "registration")
    Classifier.load(model).save(tmp_path / "untracked")
    with pytest.raises(ArtifactError, match=r"run\.json: file is missing; run the step train"):
        register(
            tmp_path / "untracked", evaluation, data.dataset, RegisterSettings(name="empty"), tmp_path / "registration"
        )


def test_the_card_of_many_classes_fits_and_names_the_license() -> None:
    classes = [f"a_long_class_name_{number:02}" for number in range(50)]
    provenance = {
        "dataset": {"digest": "d" * 64, "test_fold": 5},
        "train": {f"setting_{number}": 0.123456 for number in range(20)},
        "git_revision": "0" * 40 + "-dirty",
    }
    classifier = Classifier(small_network(50), make.SETTINGS, classes, provenance)
    shares = dict.fromkeys(set(Metrics.model_fields) - {"clips"}, 0.5)
    metrics = Metrics(clips=400, **shares)
    dataset = DatasetRecord(digest="d" * 64, source="ESC-50", origin="", clips=2000, classes=50, quarantined=())
    text = card.render("audiocnn", "r" * 32, classifier, dataset, metrics)
    assert len(text) < 5000 and "CC BY-NC 3.0" in text and classes[-1] in text
    many = Classifier(small_network(600), make.SETTINGS, [f"class_{number}" for number in range(600)], provenance)
    text = card.render("audiocnn", "r" * 32, many, dataset, metrics)
    assert len(text) < 5000 and "600 classes" in text and "... (see model.json)" in text
    other = card.render("audiocnn", "r" * 32, classifier, dataset.replace(source="my sounds"), metrics)
    assert "CC BY" not in other and "synthetic" not in other
    assert "of the test fold" in text and "which was used for nothing else" in text


def test_the_card_of_a_sweep_says_validation_fold() -> None:
    provenance = {
        "dataset": {"digest": "d" * 64, "test_fold": 3},
        "train": {"hold_out": [5], "architecture": {"width": 0.25, "dropout": 0.0}},
        "git_revision": "0" * 40,
    }
    classifier = Classifier(small_network(2), make.SETTINGS, ["a", "b"], provenance)
    metrics = Metrics(clips=400, **dict.fromkeys(set(Metrics.model_fields) - {"clips"}, 0.5))
    dataset = DatasetRecord(digest="d" * 64, source="mine", origin="", clips=2000, classes=2, quarantined=())
    text = card.render("audiocnn", "r" * 32, classifier, dataset, metrics)
    assert "all folds except validation fold 3 and the held-out 5." in text
    assert "clips of the validation fold" in text and "test fold" not in text and "nothing else" not in text
    assert "architecture (width 0.25, dropout 0.0)." in text


def test_the_component_outputs_version_and_card(model: Path, evaluation: Path, data: make.Data, tmp_path: Path) -> None:
    from kfp import dsl

    def artifact(kind: type, path: Path) -> dsl.Artifact:
        return kind(uri=str(path))

    registration = artifact(dsl.Artifact, tmp_path / "registration")
    page = artifact(dsl.Markdown, tmp_path / "card")
    component.register.python_func(
        artifact(dsl.Model, model),
        artifact(dsl.Artifact, evaluation),
        artifact(dsl.Dataset, data.dataset),
        "demo",
        {},
        "from-kubeflow",
        registration,
        page,
    )
    assert registration.metadata == {"name": "from-kubeflow", "version": 1}
    assert RegistrationFolder(tmp_path / "registration").record().version == 1
    assert "# from-kubeflow" in (tmp_path / "card").read_text()


def test_the_command_reports_an_error_in_one_sentence(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "components.register",
        "--model",
        str(tmp_path),
        "--params",
        str(ROOT / "params.yaml"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path}: not a model folder")
    assert len(done.stderr.strip().splitlines()) == 1
