"""The settings of every step: frozen, typed, and impossible values refused. Their values stand in params.yaml."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Action = Literal["error", "quarantine", "warn"]
Removal = Literal["error", "quarantine"]  # for clips without samples to go on with
LARGEST_REQUEST = 2**31 - 1  # bytes: TorchServe counts them in a Java integer
MOST_WORKERS = 256
WIDEST = 16.0  # times 64 to 512 filters: 5 billion weights, more than any GPU holds with their moments
ADDRESSES = ("inference", "management", "metrics")


def _require(condition: bool, key: str, what: str) -> None:
    """Raise ValueError("key: what"); params.py adds the file and the line."""
    if not condition:
        raise ValueError(f"{key}: {what}")


def _finite(settings: object) -> None:
    for key, value in vars(settings).items():
        if isinstance(value, float):
            _require(math.isfinite(value), key, f"must be a finite number, found {value}")


def is_address(url: str) -> bool:
    """Whether `url` is one of a server, with http or https and a host."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port above 65535
        return False
    return usable and url.isprintable() and " " not in url


def _require_address(url: str, key: str) -> None:
    _require(is_address(url), key, f"expected a URL such as http://127.0.0.1:8080, found {url!r}")


def tested_fold(hold_out: Sequence[int]) -> str:
    """What the fold is called that a model is tested on: where others are held out, something may be chosen by it."""
    return "validation fold" if hold_out else "test fold"


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
    one_fold: Action


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
        _require_address(self.esc50_url, "esc50_url")
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
        bins = self.n_fft // 2 + 1
        _require(self.n_mels <= bins, "n_mels", f"{self.n_mels} bands are more than n_fft gives bins ({bins})")

    @property
    def samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.rate * self.seconds)

    @property
    def frames(self) -> int:
        """Frames of a spectrogram: the analysis windows are centred, so there is one more than whole hops."""
        return self.samples // self.hop + 1


@dataclass(frozen=True)
class Architecture:
    """What the network is built from; a model file carries its own copy.

    width: factor on the filters of every stage; 1.0 is 64, 128, 256, 512.
    dropout: share of the pooled features that is dropped in training.
    time_stride: frames of the spectrogram a step of the first stage (4, 2 or 1); the bands' is always 4.
    band_norm: every band is brought to mean 0 and deviation 1 over the training clips.
    top_db: what lies further below a clip's maximum is raised to there, in dB; 0 leaves all as it is.
    """

    width: float
    dropout: float
    time_stride: Literal[4, 2, 1]
    band_norm: bool
    top_db: float

    def __post_init__(self) -> None:
        _finite(self)
        _require(0 < self.width <= WIDEST, "width", f"must be above 0 and at most {WIDEST:g}")
        _require(0 <= self.dropout < 1, "dropout", "must be between 0 and 1, and 1 leaves nothing to learn from")
        _require(self.top_db >= 0, "top_db", "must not be negative")

    @property
    def least_frames(self) -> int:
        """Of a spectrogram, so that the last stage's maps are two frames wide.

        Where they were one, the CPU's bfloat16 kernels gave NaN now and then.
        """
        return 8 * self.time_stride + 1


@dataclass(frozen=True)
class AugmentSettings:
    """What happens to a training batch.

    mix: `none`; `mixup` of decibels, one weight for a whole batch; `power`: between-class mixing of every clip on the
        scale of linear power.
    mix_alpha: the weights follow Beta(mix_alpha, mix_alpha).    mix_share: of the batches (mixup) or clips (power).
    freq_mask, time_mask: widest masks, in bands and frames.     mask_fill: with 0 dB, or with the clip's mean.
    """

    mix: Literal["none", "mixup", "power"]
    mix_alpha: float
    mix_share: float
    freq_mask: int
    time_mask: int
    mask_fill: Literal["zero", "mean"]

    def __post_init__(self) -> None:
        _finite(self)
        _require(self.mix_alpha > 0, "mix_alpha", "must be above 0")
        for key in ("freq_mask", "time_mask"):
            _require(getattr(self, key) >= 0, key, "must not be negative")
        _require(0 <= self.mix_share <= 1, "mix_share", "must be between 0 and 1")


@dataclass(frozen=True)
class TrainSettings:
    """The block `train` of params.yaml on top of the recipe that it names.

    hold_out: folds that are neither trained nor tested on: where a sweep chooses by the scores on `fold`, what it chose
        can still be tested on these.
    precision: of the network's arithmetic in training (autocast); `auto` is bf16 where the chip is built for it.
    resident_mb: spectrograms of a split up to this size live on the device; larger ones are streamed.
    test_every: epochs from one look at the test fold, for the curves, to the next.
    """

    recipe: str
    fold: int
    hold_out: tuple[int, ...]
    seed: int
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    checkpoint_minutes: float
    resident_mb: float
    test_every: int
    batch_size: int
    epochs: int
    lr: float
    max_lr: float
    pct_start: float
    weight_decay: float
    label_smoothing: float
    architecture: Architecture
    augment: AugmentSettings

    def __post_init__(self) -> None:
        _finite(self)
        _require(self.batch_size >= 2, "batch_size", "must be at least 2: batch norm has no variance of one clip")
        for key in ("epochs", "test_every", "lr", "max_lr"):
            _require(getattr(self, key) > 0, key, "must be above 0")
        for key in ("weight_decay", "checkpoint_minutes", "resident_mb", "seed", "fold"):
            _require(getattr(self, key) >= 0, key, "must not be negative")
        for key in ("label_smoothing", "pct_start"):
            _require(0 <= getattr(self, key) <= 1, key, "must be between 0 and 1")

    @property
    def tested(self) -> str:
        """What `fold` is called."""
        return tested_fold(self.hold_out)


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
        plain = re.fullmatch(r"[A-Za-z0-9_-]+", self.name) is not None  # it stands in URLs and file names
        _require(plain, "name", f"use letters from a to z, digits, - and _ only, not {self.name!r}")


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
        _require(
            self.workers <= MOST_WORKERS,
            "workers",
            f"must be at most {MOST_WORKERS}: each is a process with a PyTorch of its own, some hundred megabytes",
        )
        _require(self.max_request_bytes <= LARGEST_REQUEST, "max_request_bytes", f"must be at most {LARGEST_REQUEST}")
        _require(self.max_batch_delay_ms >= 0, "max_batch_delay_ms", "must not be negative")
        for key in ADDRESSES:
            _require_address(getattr(self, key), key)
        if self.start:  # one that runs elsewhere may answer all behind one address
            self._require_ports_apart()

    def _require_ports_apart(self) -> None:
        ports: dict[int | None, str] = {}
        for key in ADDRESSES:
            port = urlsplit(getattr(self, key)).port
            _require(port not in ports, key, f"has the port of deploy.{ports.get(port)}, {port}; each needs its own")
            ports[port] = key
