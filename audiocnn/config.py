"""The settings that library functions take. Default values are in params.yaml and in the recipes."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from audiocnn.strict_model import StrictModel

# The network divides the number of frames by 32, and the last feature maps need two: with one, the CPU's bfloat16
# kernels sometimes returned NaN.
MIN_FRAMES = 33
MAX_WIDTH = 16.0  # times 64 to 512 filters: 5 billion weights, more than fit into any GPU with the optimizer's state

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Octaves = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


def without_duplicates(values: tuple[int, ...]) -> tuple[int, ...]:
    """Return `values`; raise ValueError if one of them is duplicated."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value} is duplicated")
    return values


Folds = Annotated[tuple[int, ...], AfterValidator(without_duplicates)]


class SpectrogramSettings(StrictModel):
    """Block `spectrograms`: the front end, from waveform to log-mel spectrogram. A model carries its own copy.

    Attributes:
        rate: sample rate in Hz; clips are resampled to it.
        seconds: length of a clip in s; longer clips are cut, shorter ones padded with silence.
        n_fft: length of the FFT in samples.
        hop: samples between two frames.
        n_mels: number of mel bands.
        f_min: lower edge of the lowest band in Hz.
        f_max: upper edge of the highest band in Hz.
    """

    rate: PositiveInt
    seconds: Positive
    n_fft: PositiveInt
    hop: PositiveInt
    n_mels: PositiveInt
    f_min: NonNegative
    f_max: Positive

    @field_validator("n_fft")
    @classmethod
    def _check_n_fft(cls, n_fft: int, info: ValidationInfo) -> int:
        data = info.data
        if {"rate", "seconds"} <= data.keys() and round(data["rate"] * data["seconds"]) <= n_fft // 2:
            raise PydanticCustomError(
                "clip_too_short", "should be less than two clip lengths (rate * seconds), or a clip has no frame"
            )
        return n_fft

    @field_validator("hop")
    @classmethod
    def _check_hop(cls, hop: int, info: ValidationInfo) -> int:
        if hop > info.data.get("n_fft", hop):
            raise ValueError(f"should not be above n_fft ({info.data['n_fft']}), or samples are skipped")
        return hop

    @field_validator("n_mels")
    @classmethod
    def _check_n_mels(cls, n_mels: int, info: ValidationInfo) -> int:
        if "n_fft" in info.data and n_mels > (bins := info.data["n_fft"] // 2 + 1):
            raise ValueError(f"should not be above the number of frequency bins ({bins})")
        return n_mels

    @field_validator("f_max")
    @classmethod
    def _check_f_max(cls, f_max: float, info: ValidationInfo) -> float:
        if "rate" in info.data and f_max > info.data["rate"] / 2:
            raise ValueError(f"should not be above half the sample rate ({info.data['rate'] / 2:g} Hz)")
        if f_max <= info.data.get("f_min", 0):
            raise ValueError(f"should be above f_min ({info.data['f_min']:g} Hz)")
        return f_max

    @property
    def samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.rate * self.seconds)

    @property
    def frames(self) -> int:
        """Frames of a spectrogram; the analysis windows are centered, so there is one more than whole hops."""
        return self.samples // self.hop + 1


class Architecture(StrictModel):
    """Block `train.architecture`: the network. A model carries its own copy.

    Attributes:
        width: factor on the number of filters of every stage; 1.0 is 64, 128, 256, 512.
        dropout: dropout probability before the linear layer.
        frequency_channel: add a second input channel: the position of each mel band, from -1 to 1.
        squeeze_excitation: weight the channels of every block by what the block's output contains on average.
        band_norm: standardize every mel band by its mean and standard deviation over the training clips.
        top_db: raise values further than this below a clip's maximum to that level, in dB; 0 changes nothing.
    """

    width: Annotated[float, Field(gt=0, le=MAX_WIDTH)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    frequency_channel: bool
    squeeze_excitation: bool
    band_norm: bool
    top_db: NonNegative


class AugmentSettings(StrictModel):
    """Block `train.augment`: augmentation of training batches, in the order of the settings. 0 and false are off.

    Attributes:
        roll: shift every clip circularly by a random share of its length.
        tempo: maximum change of the tempo, in octaves (0.3 is a factor of 0.81 to 1.23); the clip wraps around.
        pitch_scale: maximum change of the scale of the mel bands, in octaves.
        pitch_shift: maximum shift of the mel bands, in bands.
        equalizer_db: standard deviation of the gains of a random equalizer, in dB.
        mix: `none`; `mixup` of decibels with one weight for each batch; or `power`, between-class mixing of linear
            power with one weight for each clip.
        mix_alpha: mixing weights follow Beta(mix_alpha, mix_alpha).
        mix_share: share of batches (mixup) or clips (power) that are mixed.
        freq_mask: maximum width of the frequency mask in mel bands.
        time_mask: maximum width of the time mask in frames.
        mask_fill: fill masks with 0 dB (`zero`) or with the clip's mean (`mean`).
    """

    roll: bool
    tempo: Octaves
    pitch_scale: Octaves
    pitch_shift: NonNegative
    equalizer_db: NonNegative
    mix: Literal["none", "mixup", "power"]
    mix_alpha: Positive
    mix_share: Share
    freq_mask: NonNegativeInt
    time_mask: NonNegativeInt
    mask_fill: Literal["zero", "mean"]


class TrainSettings(StrictModel):
    """Block `train`.

    Attributes:
        fold: the test fold; the model is trained on all others.
        hold_out: folds used neither for training nor for testing, so that a choice made by scores on `fold` can still
            be tested on them.
        calibration_fold: a fold used neither for training nor for testing, on which the temperature and the thresholds
            of the model are fitted (audiocnn.calibration); None: the model has none.
        leave_out: names of classes that the model is not trained to recognize. The evaluation measures how well
            their clips are separated from those of the model's classes.
        seed: of the initial weights, the order of clips, dropout and augmentation.
        device: auto, cpu, cuda, cuda:1, ...
        precision: fp32, bf16 (autocast), or auto: bf16 where the hardware has bfloat16 instructions.
        checkpoint_minutes: time between two checkpoints; 0 writes one after every step.
        resident_mb: splits up to this size are kept on the device; larger ones are streamed from disk.
        test_every: epochs between two evaluations on the test fold, which are only for the curves.
        batch_size: clips of a batch; batch norm needs at least 2.
        epochs: number of epochs.
        lr: initial learning rate of AdamW; the one-cycle schedule replaces it at the first step.
        max_lr: maximum of the one-cycle schedule.
        pct_start: share of the steps in which the learning rate rises.
        cycle_momentum: whether AdamW's beta1 falls from 0.95 to 0.85 while the learning rate rises, and then returns;
            if not, it is 0.9. On a GPU, the optimizer's step is then part of the CUDA graph.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy.
        ema_horizon: horizon of the exponential moving average of the weights, as a share of the training's steps; the
            averaged weights are evaluated and saved. 0 saves the weights of the last step.
        architecture: see Architecture.
        augment: see AugmentSettings.
    """

    fold: NonNegativeInt
    hold_out: Folds
    calibration_fold: NonNegativeInt | None
    leave_out: tuple[str, ...]
    seed: NonNegativeInt
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    checkpoint_minutes: NonNegative
    resident_mb: NonNegative
    test_every: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    epochs: PositiveInt
    lr: Positive
    max_lr: Positive
    pct_start: Share
    cycle_momentum: bool
    weight_decay: NonNegative
    label_smoothing: Share
    ema_horizon: Share
    architecture: Architecture
    augment: AugmentSettings

    @property
    def fold_role(self) -> str:
        """What the test fold of this training is for; see `fold_role`."""
        return fold_role(self.hold_out)

    @property
    def roles(self) -> dict[str, Any]:
        """The arguments of `audiocnn.data.clips.split` after the table."""
        return {name: getattr(self, name) for name in ("fold", "hold_out", "calibration_fold", "leave_out")}

    @property
    def reserved_folds(self) -> Folds:
        """The folds that are used neither for training nor for testing."""
        return self.hold_out if self.calibration_fold is None else (*self.hold_out, self.calibration_fold)


class EvaluateSettings(StrictModel):
    """Block `evaluate`.

    Attributes:
        batch_size: clips of a batch.
        device: auto, cpu, cuda, cuda:1, ...
        confidence: of the intervals, for example 0.95.
        worst_clips: number of misclassified clips shown in the report.
        audit_fold: a fold on which the accuracy is measured for the champion's card only; no model is trained on it or
            selected by it, so it has to be in train.hold_out. Without one, None.
        robustness_clips: number of clips that are classified with noise and other changes too; 0 leaves that out.
    """

    batch_size: PositiveInt
    device: str
    confidence: Annotated[float, Field(gt=0, lt=1)]
    worst_clips: NonNegativeInt
    audit_fold: NonNegativeInt | None
    robustness_clips: NonNegativeInt


class DecodeSettings(StrictModel):
    """Block `decode`: which sound files can be classified.

    Attributes:
        ffmpeg: decode M4A, AAC, WebM, FLAC in Ogg and MP3 in WAV with the program ffmpeg, where it is installed.
    """

    ffmpeg: bool


def fold_role(hold_out: Collection[int]) -> str:
    """Return "test fold", or "validation fold" where other folds are held out and a choice may be made on this one."""
    return "validation fold" if hold_out else "test fold"


def check_audit_fold(evaluate: EvaluateSettings, train: TrainSettings) -> None:
    """Check that the audit fold is held out of the training.

    Raises:
        PydanticCustomError: as `check_compatible`.
    """
    if evaluate.audit_fold is not None and evaluate.audit_fold not in train.hold_out:
        raise PydanticCustomError(
            "audit_fold_not_held_out",
            "fold {fold} has to be held out of the training too; add it to train.hold_out",
            {"key": "evaluate.audit_fold", "fold": evaluate.audit_fold},
        )


def check_compatible(train: TrainSettings, spectrograms: SpectrogramSettings) -> None:
    """Check that the network and the augmentation fit spectrograms of this size.

    Raises:
        PydanticCustomError: with the dotted key at fault in its context; a pydantic validator turns it into one of the
            lines of a SettingsError.
    """
    limits = {
        "freq_mask": ("mel bands", spectrograms.n_mels),
        "time_mask": ("frames", spectrograms.frames),
    }
    for name, (unit, limit) in limits.items():
        if (width := getattr(train.augment, name)) > limit:
            raise PydanticCustomError(
                "mask_too_wide",
                "should not be above the {limit} {unit} of a spectrogram, found {width}",
                {"key": f"train.augment.{name}", "limit": limit, "unit": unit, "width": width},
            )
    if (frames := spectrograms.frames) < MIN_FRAMES:
        raise PydanticCustomError(
            "too_few_frames",
            "a clip has {frames} frames and the network needs {needed}; increase it, or decrease spectrograms.hop",
            {"key": "spectrograms.seconds", "frames": frames, "needed": MIN_FRAMES},
        )
