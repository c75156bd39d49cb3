"""``samsemi info``: what a bug report needs, and what the SAMs cost."""

from collections.abc import Mapping
from typing import Any

import torch

from samsemi import console
from samsemi.cost import count_sams
from samsemi.options.info import InfoOptions
from samsemi.options.sams import SAMS
from samsemi.tensors import hash_file
from samsemi.training.runs import describe_environment


def info(options: InfoOptions) -> dict[str, object]:
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


def tables(result: Mapping[str, Any]) -> list[console.Table]:
    """A row per SAM."""
    rows = [[name, f"{c['parameters'] / 1e6:.1f} M", f"{c['gflops']:.1f}"] for name, c in result["cost"].items()]
    return [console.Table("cost of an image with one box", ["SAM", "parameters", "GFLOPs"], rows)]
