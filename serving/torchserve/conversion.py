"""Convert a model's network for the faster runtimes, and choose the first one whose answers are those of the model."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audiocnn.audio import Sound, decode, to_waveform
from audiocnn.classifier import Classifier
from audiocnn.synthetic.dataset import CLASSES, synthesize
from audiocnn.synthetic.signals import RATE
from serving.torchserve.backends import (
    INPUT,
    NETWORK_FILE,
    Backend,
    BackendError,
    BackendName,
    load_converted,
    load_folded,
)

ORDER: tuple[BackendName, ...] = ("openvino", "onnxruntime", "torch")  # on a CPU, the fastest first: docs/serving.md
TOLERANCE = 1e-4  # maximum difference of a probability; float32 sums depend on their order
BF16_TOLERANCE = 1e-2  # bfloat16 has 8 bits for a number


def tolerance(bf16: bool) -> float:
    """Return the largest difference of a probability that is allowed."""
    return BF16_TOLERANCE if bf16 else TOLERANCE


def choose_backend(
    folder: Path, wanted: BackendName | Literal["auto"], bf16: bool, clips: Sequence[bytes], scratch: Path
) -> Backend:
    """Choose the backend of an archive, and write the converted network for it to `scratch`.

    The choice does not depend on measured times, so that every deploy of a version builds the same archive.

    Args:
        folder: of the model.
        wanted: a backend, or auto for the first of ORDER that gives the model's answers.
        bf16: let OpenVINO compute in bfloat16.
        clips: sound files for the comparison, in addition to four synthetic sounds.
    Raises:
        BackendError: the wanted backend cannot run the network, or gives other answers; with auto, every one.
    """
    classifier = Classifier.load(folder)
    synthetic = [
        synthesize(kind, fold=1, index=0)[:, None].astype(np.float32) / np.float32(2**15) for kind in CLASSES[::3]
    ]
    sounds = [*(decode(clip) for clip in clips), *(Sound(samples, RATE) for samples in synthetic)]
    waveforms = torch.stack([torch.from_numpy(to_waveform(sound, classifier.settings)) for sound in sounds])
    expected = classifier.classify(waveforms)
    problems = []
    for name in ORDER if wanted == "auto" else (wanted,):
        try:
            return _checked_backend(name, bf16 and name == "openvino", folder, scratch, waveforms, expected)
        except BackendError as error:
            problems.append(str(error))
            print(f"[deploy] {error}", flush=True)
    raise BackendError("; ".join(problems))


def _checked_backend(
    name: BackendName, bf16: bool, folder: Path, scratch: Path, waveforms: Tensor, expected: Tensor
) -> Backend:
    """Return a backend whose answers are those of the model."""
    if name == "torch":
        backend, classifier = Backend(name=name), load_folded(folder)
    else:
        network = scratch / NETWORK_FILE
        if not network.is_file():
            export(Classifier.load(folder), network)
        digest = hashlib.sha256(network.read_bytes()).hexdigest()
        backend = Backend(name=name, bf16=bf16, network_sha256=digest)
        classifier = load_converted(folder, backend, network)
    check_answers(name, expected, classifier.classify(waveforms), tolerance(bf16))
    return backend


def check_answers(name: BackendName, expected: Tensor, found: Tensor, allowed: float) -> None:
    """Compare probabilities of shape (clips, n_classes).

    Raises:
        BackendError: another class is the most probable one, or a probability differs by more than `allowed`.
    """
    difference = float((found - expected).abs().max())
    changed = int((found.argmax(1) != expected.argmax(1)).sum())
    if changed or not difference <= allowed:
        raise BackendError(
            f"deploy.backend: {name} gives other answers than the model: the largest difference of a probability is "
            f"{difference:.2g} (allowed {allowed:g}), and the most probable class differs for {changed} of "
            f"{len(expected)} clips; set deploy.backend to another one, or to auto"
        )


def export(classifier: Classifier, path: Path) -> None:
    """Write the network as an ONNX file that takes batches of any size.

    Raises:
        BackendError: PyTorch cannot export it.
    """
    example = torch.zeros(1, 1, classifier.settings.n_mels, classifier.settings.frames)
    batch = {0: "batch"}
    with warnings.catch_warnings():
        # The exporter without dynamo is deprecated; the other one needs onnxscript and 20 times as long.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            torch.onnx.export(
                classifier.network.eval(),
                (example,),
                path,
                input_names=[INPUT],
                output_names=["logits"],
                dynamic_axes={INPUT: batch, "logits": batch},
                dynamo=False,
            )
        except (RuntimeError, ImportError) as error:
            raise BackendError(f"PyTorch cannot export the network: {error}") from error
