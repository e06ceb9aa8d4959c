"""Run a model's network with OpenVINO, ONNX Runtime or PyTorch, as the archive says."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from audiocnn.classifier import Classifier
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, ResidualBlock
from audiocnn.strict_model import StrictModel

BACKEND_FILE = "backend.json"  # in the archive
NETWORK_FILE = "network.onnx"  # in the archive, for all backends but torch
INPUT = "spectrograms"  # float32 of shape (batch, 1, n_mels, frames), in dB

BackendName = Literal["openvino", "onnxruntime", "torch"]
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (batch, 1, n_mels, frames) -> logits


class BackendError(AudioCNNError):
    """A backend that cannot run the network, or gives other answers than the model."""


class Backend(StrictModel):
    """Content of backend.json.

    Attributes:
        name: the runtime.
        bf16: whether it computes in bfloat16.
        network_sha256: digest of network.onnx; empty for torch.
    """

    name: BackendName
    bf16: bool = False
    network_sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} in bfloat16" if self.bf16 else self.name


class ConvertedClassifier(Classifier):
    """A classifier whose network runs in another runtime; `explain` runs it in PyTorch."""

    run: Network

    def logits(self, spectrograms: Tensor) -> Tensor:
        """Run the network."""
        return torch.from_numpy(self.run(spectrograms.float().unsqueeze(1).numpy()))


def load(model_dir: Path, device: torch.device) -> Classifier:
    """Load the model of an unpacked archive. A GPU, and an archive without backend.json, use PyTorch.

    Raises:
        ModelError: the model cannot be loaded.
        BackendError: the converted network differs from its digest, or the runtime does not load it.
    """
    if device.type != "cpu":
        return Classifier.load(model_dir, device)
    record, network = model_dir / BACKEND_FILE, model_dir / NETWORK_FILE
    backend = Backend.parse(json.loads(record.read_bytes()), str(record)) if record.is_file() else Backend(name="torch")
    if backend.name == "torch":
        return load_folded(model_dir)
    if not network.is_file() or hashlib.sha256(network.read_bytes()).hexdigest() != backend.network_sha256:
        raise BackendError(f"{network}: the SHA-256 digest differs from the one in {BACKEND_FILE}; deploy again")
    return load_converted(model_dir, backend, network)


def load_folded(model_dir: Path) -> Classifier:
    """Load a model for PyTorch on a CPU: convolutions contain their batch norm, and are in the format channels last."""
    classifier = Classifier.load(model_dir)
    fold_batch_norm(classifier.network)
    classifier.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return classifier


def load_converted(model_dir: Path, backend: Backend, network: Path) -> Classifier:
    """Load a model whose converted network is in the file `network`."""
    classifier = ConvertedClassifier.load(model_dir)
    try:
        classifier.run = {"openvino": _openvino, "onnxruntime": _onnxruntime}[backend.name](network, backend.bf16)
    except Exception as error:  # the runtimes raise types of their own
        raise BackendError(f"{backend.name} cannot load {network.name}: {error}") from error
    return classifier


def fold_batch_norm(network: AudioCNN) -> None:
    """Multiply every batch norm into the convolution before it; the network then only works in evaluation mode."""
    convolution, norm, *_ = network.stem
    network.stem[0], network.stem[1] = _fuse(convolution, norm), nn.Identity()
    for block in [module for module in network.modules() if isinstance(module, ResidualBlock)]:
        block.conv1, block.conv2 = _fuse(block.conv1, block.bn1), _fuse(block.conv2, block.bn2)
        block.bn1 = block.bn2 = nn.Identity()  # type: ignore[assignment]
        if isinstance(block.skip, nn.Sequential):
            block.skip = _fuse(*block.skip)


def _fuse(convolution: Any, norm: Any) -> nn.Conv2d:
    fused: nn.Conv2d = fuse_conv_bn_eval(convolution.eval(), norm.eval())
    return fused


def _openvino(path: Path, bf16: bool) -> Network:
    import openvino

    # Workers must not be pinned to the same cores. Without a precision, OpenVINO takes bfloat16 where it is fast.
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda spectrograms: compiled(spectrograms)[0]


def _onnxruntime(path: Path, bf16: bool) -> Network:
    import onnxruntime

    if bf16:
        raise BackendError("bfloat16 needs OpenVINO")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait for work must not occupy the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda spectrograms: session.run(None, {INPUT: spectrograms})[0]
