"""``samsemi info``: what a bug report needs."""

import torch

from samsemi.options.info import InfoOptions
from samsemi.sam.table import SAMS
from samsemi.tensors import hash_file
from samsemi.training.runs import describe_environment


def info(options: InfoOptions) -> dict[str, object]:
    """Versions, devices, backends, packaged weights."""
    devices = ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return {
        **describe_environment(),
        "devices": ", ".join(devices),
        "threads": torch.get_num_threads(),
        "backends": ", ".join(SAMS),
        "tiny": hash_file(SAMS["tiny"].weights),
    }
