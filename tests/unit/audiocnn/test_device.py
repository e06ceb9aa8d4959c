"""Selection of the compute device, and detection of fast bfloat16."""

import pytest
import torch

from audiocnn.device import DeviceError, has_fast_bf16, resolve_device


def test_auto_selects_cuda_where_it_is_available() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:x", "toaster"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"unknown device '{name}'; use auto"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_it_is_not_available() -> None:
    with pytest.raises(DeviceError, match="CUDA is not available"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("features", "fast"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True, "amx_int8": True}, False),
        ({"neon": True}, False),
    ],
)
def test_a_cpu_has_fast_bf16_with_either_instruction_set(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert has_fast_bf16(torch.device("cpu")) == fast


@pytest.mark.parametrize("fast", [True, False])
def test_a_gpu_has_fast_bf16_where_it_is_not_emulated(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast or including_emulation)
    assert has_fast_bf16(torch.device("cuda")) == fast


def test_an_unknown_kind_of_device_has_no_fast_bf16() -> None:
    assert not has_fast_bf16(torch.device("meta"))
