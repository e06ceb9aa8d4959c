"""The settings of every step: frozen, typed, and impossible values refused. Their values stand in params.yaml."""

import math
from dataclasses import dataclass
from typing import Literal

Action = Literal["error", "quarantine", "warn"]
Removal = Literal["error", "quarantine"]  # for clips without samples to go on with


def _require(condition: bool, key: str, what: str) -> None:
    """Raise ValueError("key: what"); params.py adds the file and the line."""
    if not condition:
        raise ValueError(f"{key}: {what}")


def _finite(settings: object) -> None:
    for key, value in vars(settings).items():
        if isinstance(value, float):
            _require(math.isfinite(value), key, f"must be a finite number, found {value}")


@dataclass(frozen=True)
class IngestPolicy:
    """What to do with each kind of finding: fail the run, set the clip aside, or report it."""

    missing: Removal
    undecodable: Removal
    truncated: Removal
    empty: Removal
    not_finite: Removal
    too_long: Removal
    too_short: Action
    silent: Action
    clipped: Action
    listed_twice: Action
    duplicate_audio: Action
    source_in_two_folds: Action
    few_clips: Action


@dataclass(frozen=True)
class IngestSettings:
    """The block `ingest`."""

    subset: Literal["all", "esc10"]
    min_seconds: float
    max_seconds: float
    max_clipped_share: float
    min_clips_per_class: int
    esc50_url: str
    downloads: str
    max_source_bytes: int
    max_source_files: int
    policy: IngestPolicy

    def __post_init__(self) -> None:
        _finite(self)
        _require(self.min_seconds >= 0, "min_seconds", "must not be negative")
        _require(self.max_seconds > self.min_seconds, "max_seconds", "must be above min_seconds")
        _require(0 <= self.max_clipped_share <= 1, "max_clipped_share", "must be between 0 and 1")
        _require(self.min_clips_per_class >= 1, "min_clips_per_class", "must be at least 1")
        _require(self.esc50_url.startswith(("https://", "http://")), "esc50_url", "expected an address with https://")
        for key in ("max_source_bytes", "max_source_files"):
            _require(getattr(self, key) >= 1, key, "must be at least 1")


@dataclass(frozen=True)
class SpectrogramSettings:
    """The block `spectrograms`: the front end, from sound to log-mel spectrogram. A model carries its own copy.

    Units: rate, f_min and f_max in Hz; seconds in s; n_fft and hop in samples.
    """

    rate: int
    seconds: float
    n_fft: int
    hop: int
    n_mels: int
    f_min: float
    f_max: float

    def __post_init__(self) -> None:
        _finite(self)
        for key in ("rate", "seconds", "n_fft", "hop", "n_mels"):
            _require(getattr(self, key) > 0, key, "must be above 0")
        _require(self.hop <= self.n_fft, "hop", f"must not be above n_fft ({self.n_fft}), or samples are never seen")
        _require(
            self.samples > self.n_fft // 2,
            "seconds",
            f"a clip must be longer than n_fft / 2 ({self.n_fft // 2}) samples",
        )
        _require(
            self.f_max <= self.rate / 2, "f_max", f"{self.f_max:g} Hz is above half the rate ({self.rate / 2:g} Hz)"
        )
        _require(0 <= self.f_min < self.f_max, "f_min", f"must be between 0 and f_max ({self.f_max:g} Hz)")

    @property
    def samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.rate * self.seconds)

    @property
    def frames(self) -> int:
        """Frames of a spectrogram: the analysis windows are centred, so there is one more than whole hops."""
        return self.samples // self.hop + 1


@dataclass(frozen=True)
class TrainSettings:
    """The block `train` of params.yaml on top of the recipe that it names."""

    recipe: str
    fold: int
    seed: int
    device: str
    precision: Literal["fp32", "bf16"]
    checkpoint_minutes: float
    width: float
    dropout: float
    batch_size: int
    epochs: int
    lr: float
    max_lr: float
    pct_start: float
    weight_decay: float
    label_smoothing: float
    mixup_alpha: float
    mixup_share: float
    freq_mask: int
    time_mask: int

    def __post_init__(self) -> None:
        _finite(self)
        for key in ("width", "batch_size", "epochs", "lr", "max_lr", "mixup_alpha"):
            _require(getattr(self, key) > 0, key, "must be above 0")
        for key in ("weight_decay", "freq_mask", "time_mask", "checkpoint_minutes", "seed"):
            _require(getattr(self, key) >= 0, key, "must not be negative")
        for key in ("mixup_share", "dropout", "label_smoothing", "pct_start"):
            _require(0 <= getattr(self, key) <= 1, key, "must be between 0 and 1")
        _require(self.dropout < 1, "dropout", "must be below 1, or nothing is left to learn from")


@dataclass(frozen=True)
class EvaluateSettings:
    """The block `evaluate`."""

    batch_size: int
    device: str
    confidence: float
    worst_clips: int

    def __post_init__(self) -> None:
        _finite(self)
        _require(self.batch_size > 0, "batch_size", "must be above 0")
        _require(0 < self.confidence < 1, "confidence", "must be between 0 and 1, for example 0.95")
        _require(self.worst_clips >= 0, "worst_clips", "must not be negative")


@dataclass(frozen=True)
class RegisterSettings:
    """The block `register`."""

    name: str

    def __post_init__(self) -> None:
        _require(self.name.replace("-", "").replace("_", "").isalnum(), "name", "use letters, digits, - and _ only")


@dataclass(frozen=True)
class PromoteSettings:
    """The block `promote`: the policy that a challenger has to meet."""

    approval: Literal["automatic", "person"]
    min_accuracy: float
    min_class_recall: float
    max_accuracy_drop: float
    min_paired_clips: int
    max_latency_ms: float

    def __post_init__(self) -> None:
        _finite(self)
        for key in ("min_accuracy", "min_class_recall", "max_accuracy_drop"):
            _require(0 <= getattr(self, key) <= 1, key, "must be between 0 and 1")
        _require(self.min_paired_clips >= 1, "min_paired_clips", "must be at least 1")
        _require(self.max_latency_ms > 0, "max_latency_ms", "must be above 0")


@dataclass(frozen=True)
class DeploySettings:
    """The block `deploy`: the TorchServe to reconcile, and how it serves."""

    inference: str
    management: str
    metrics: str
    state: str
    start: bool
    workers: int
    batch_size: int
    max_batch_delay_ms: int
    max_request_bytes: int

    def __post_init__(self) -> None:
        for key in ("workers", "batch_size", "max_request_bytes"):
            _require(getattr(self, key) >= 1, key, "must be at least 1")
        _require(self.max_batch_delay_ms >= 0, "max_batch_delay_ms", "must not be negative")
        for key in ("inference", "management", "metrics"):
            url = getattr(self, key)
            _require(
                url.startswith(("http://", "https://")),
                key,
                f"expected a URL such as http://127.0.0.1:8080, found {url!r}",
            )
