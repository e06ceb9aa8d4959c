"""What a training actually computed with, recorded in MLflow and model.json."""

import platform
from pathlib import Path
from typing import Any

import torch

from audiocnn.config import TrainSettings
from audiocnn.training.distributed import ProcessGroup
from audiocnn.training.forward import uses_bf16
from mlops.image import own_image
from mlops.provenance import lock_digest

CPU_INFO = Path("/proc/cpuinfo")


def training_environment(
    settings: TrainSettings, device: torch.device, group: ProcessGroup, cuda_graph: bool
) -> dict[str, Any]:
    """Return the device and the precision that `auto` resolved to, threads, processes, image and packages."""
    return {
        "device": str(device),
        "hardware": hardware_name(device),
        "precision": "bf16" if uses_bf16(settings, device) else "fp32",
        "threads": torch.get_num_threads(),
        "processes": group.size,
        "cuda_graph": cuda_graph,
        "torch": torch.__version__,
        "image": own_image() or "none",
        "lock": lock_digest(),
    }


def hardware_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor; platform.processor() is often empty on Linux."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
