"""What a training actually computed with, recorded in MLflow and model.json."""

import platform
from pathlib import Path
from typing import Any

import torch

from audiocnn.config import TrainSettings
from audiocnn.training.distributed import ProcessGroup
from audiocnn.training.forward import uses_bf16
from mlops.image import own_image

CPU_INFO = Path("/proc/cpuinfo")


def training_environment(
    settings: TrainSettings, device: torch.device, group: ProcessGroup, cuda_graph: bool
) -> dict[str, Any]:
    """Return the device and the precision that `auto` resolved to, the CPU threads, the processes and the image."""
    return {
        "device": str(device),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "precision": "bf16" if uses_bf16(settings, device) else "fp32",
        "threads": torch.get_num_threads(),
        "processes": group.size,
        "cuda_graph": cuda_graph,
        "torch": torch.__version__,
        "image": own_image() or "none",
    }


def _processor() -> str:
    """Return the processor's name; platform.processor() is often empty on Linux."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
