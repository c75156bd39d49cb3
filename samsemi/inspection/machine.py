"""The machine and the packages that samsemi runs on, and what the SAMs cost: for a bug report."""

import torch

from samsemi.cost import count_sams
from samsemi.options.sams import SAMS
from samsemi.tensors import hash_file
from samsemi.training.runs import describe_environment


def describe_machine() -> dict[str, object]:
    """Versions, devices, backends, packaged weights; what an image with one box costs each SAM."""
    devices = ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return {
        **describe_environment(),
        "devices": ", ".join(devices),
        "threads": torch.get_num_threads(),
        "backends": ", ".join(SAMS),
        **{name: hash_file(entry.weights) for name, entry in SAMS.items() if entry.weights},
        "cost": count_sams(),
    }
