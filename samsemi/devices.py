"""Where and how precisely to compute."""

from contextlib import AbstractContextManager

import torch

from samsemi.errors import DeviceError, UsageError


def choose_device(name: str) -> torch.device:
    """'auto' takes CUDA, then MPS, then the CPU; DeviceError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: no such kind of device", "give auto, cpu, cuda, cuda:1 or mps") from None
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
    }
    if not there.get(device.type, False):
        raise DeviceError(f"--device {name} is not available on this machine", "see `samsemi info` for what is, or give --device auto")
    return device


def choose_precision(device: torch.device, precision: str) -> str:
    """'auto' becomes bf16 where a GPU computes it by itself, else fp32."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 autocast or plain fp32, by ``choose_precision``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=choose_precision(device, precision) == "bf16")
