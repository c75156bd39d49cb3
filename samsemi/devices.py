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


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 autocast where asked for, or for 'auto' where a GPU has it; otherwise plain fp32."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
