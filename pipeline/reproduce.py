"""Train a registered version again with what it recorded, and compare the two models. Nothing is registered."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import DeviceError, resolve_device
from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import SettingsError
from components.ingest.settings import IngestSettings
from components.ingest.sources import parse_source
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from components.train.environment import hardware_name
from components.train.step import train
from mlops import tracking
from mlops.artifacts import DatasetFolder, ModelFolder, TrainingRequest
from mlops.provenance import DIRTY, git_revision, lock_digest
from pipeline.comparison import Comparison, compare
from pipeline.local import Run, start_run
from pipeline.settings import PipelineSettings

STEPS = ("ingest", "spectrograms", "train")
TAG = "reproduces"  # of the MLflow run of the second training: the version
REPORT = "reproduction.json"  # artifact of that run
DATA_KEYS = ("subset", "max_clipped_share", "min_clips_per_class", "policy")  # of the block ingest: they make the data


class ReproduceError(AudioCNNError):
    """A version that does not record enough to be trained again, or a source that gives other data."""


class Reproduction:
    """A version that is to be trained again.

    Attributes:
        request: the recorded training, with the device and the precision that `auto` resolved to.
        threads: number of CPU threads to train with.
        differences: what is known to differ from the first training, in sentences; empty if nothing is.
    """

    def __init__(self, name: str, number: int) -> None:
        """Read a version from the registry.

        Raises:
            TrackingError: it does not exist, or its files are missing or damaged.
            ReproduceError: it does not record its training completely.
        """
        self.version = tracking.get_version(name, number)
        with tempfile.TemporaryDirectory() as scratch:
            self._classifier = Classifier.load(tracking.download_model(self.version, Path(scratch, "model")))
        self._name = f"{name} version {number}"
        self._provenance = self._classifier.provenance
        self._environment: dict[str, Any] = self._provenance.get("environment", {})
        self.threads = int(self._environment.get("threads", torch.get_num_threads()))
        self.request = self._request()
        self.differences = self._differences()

    @property
    def title(self) -> str:
        """The version, its data and its training in one line."""
        dataset, settings = self._provenance["dataset"], self.request.settings
        return (
            f"{self._name}: {dataset['source']} (digest {dataset['digest'][:12]}), recipe {self.request.recipe}, "
            f"test fold {settings.fold}, seed {settings.seed}, {settings.epochs} epochs, {settings.device}, "
            f"{settings.precision}, {self.threads} CPU threads"
        )

    def run(self, settings: PipelineSettings, source: str = "") -> tuple[Comparison, Path]:
        """Make the data, the spectrograms and the training again; return the comparison and the folder of the run.

        Args:
            settings: the cache of spectrograms, and of the block `ingest` the limits and addresses are used.
            source: where the data is now, by default the recorded origin.
        Raises:
            ReproduceError: the source gives other data.
            RunError: a step failed.
        """
        recorded = self._provenance["dataset"]
        parsed = parse_source(source or recorded.get("origin") or recorded["source"])
        parsed.require_exists()
        front_end = self._classifier.settings

        def functions(folder: Path) -> dict[str, Any]:
            # Its own checkpoints: one that an interrupted training left must not shorten this one.
            training = partial(train, request=self.request, checkpoints=str(folder / "checkpoints"))
            return {
                "ingest": partial(ingest, parsed.pinned(), self._ingest_settings(settings.ingest), front_end),
                "spectrograms": partial(spectrograms, settings=front_end, cache=settings.storage.cache),
                "train": training,
            }

        with start_run("reproduce", STEPS, functions) as run:
            comparison = self._rebuild(run, parsed.text)
            return comparison, run.folder

    def _rebuild(self, run: Run, source: str) -> Comparison:
        dataset = run.step("ingest")
        expected, found = self._provenance["dataset"]["digest"], DatasetFolder(dataset).record().digest
        if expected != found:
            raise ReproduceError(
                f"{source} gives the data set {found[:12]}, and {self._name} was trained on {expected[:12]}; "
                "name its source with --source"
            )
        data = run.step("spectrograms", dataset=dataset)
        with _cpu_threads(self.threads):
            model = ModelFolder(run.step("train", spectrograms=data))
        comparison = compare(self._classifier, model.classifier(), SpectrogramSet.open(data), self.request.settings)
        with tracking.resume_run(model.run().run_id) as mlflow_run:
            mlflow_run.set_tags({TAG: self._name})
            mlflow_run.log_text(json.dumps(comparison.to_dict(), indent=2), REPORT)
        return comparison

    def _ingest_settings(self, present: IngestSettings) -> IngestSettings:
        """Return the present block `ingest` with the recorded settings that make the data."""
        registration = tracking.read_records(self.version).registration
        recorded = {} if registration is None else registration.dataset.settings
        changes = {key: value for key, value in recorded.items() if key in DATA_KEYS}
        return present.merged_with(changes, f"{self._name}, block ingest")

    def _request(self) -> TrainingRequest:
        """Return the recorded training, on the recorded device if there is one here."""
        try:
            settings = TrainSettings.parse(self._provenance.get("train", {}), "model.json", prefix="train")
        except SettingsError as error:
            raise ReproduceError(
                f"{self._name} does not record all settings of this release ({str(error).splitlines()[0]}); use the "
                f"release that trained it, git revision {self._provenance.get('git_revision', 'unknown')}"
            ) from error
        device = self._environment.get("device", settings.device)
        precision = self._environment.get("precision", settings.precision)
        settings = settings.replace(device=device if _is_available(device) else "auto", precision=precision)
        return TrainingRequest(recipe=self._provenance.get("recipe", "unknown"), settings=settings)

    def _differences(self) -> list[str]:
        then, device = self._environment, resolve_device(self.request.settings.device)
        facts = {
            "processor": (then.get("hardware"), hardware_name(device)),
            "version of PyTorch": (then.get("torch"), torch.__version__),
            "SHA-256 digest of requirements.lock": (then.get("lock"), lock_digest()),
            "git revision": (self._provenance.get("git_revision"), git_revision()),
        }
        found = [
            f"The {what} is {now}, and was {before or 'not recorded'}."
            for what, (before, now) in facts.items()
            if before != now
        ]
        if git_revision().endswith(DIRTY):
            found.append("Files of this working tree differ from its git revision.")
        if "threads" not in then:
            found.append(f"The number of CPU threads was not recorded; {self.threads} are used.")
        if (processes := then.get("processes", 1)) > 1:
            found.append(f"It was trained by {processes} processes; one is used, with other batches.")
        return found


def _is_available(device: str) -> bool:
    try:
        resolve_device(device)
    except DeviceError:
        return False
    return True


@contextmanager
def _cpu_threads(number: int) -> Iterator[None]:
    """Compute with this number of threads: sums are divided among them, so the number changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
