"""The machine and the packages that samsemi runs on, and what the SAMs cost: for a bug report."""

from importlib.metadata import version
from importlib.util import find_spec

import torch

from samsemi.cost import count_sams
from samsemi.inputs import hash_file
from samsemi.options.sams import HF, SAMS
from samsemi.remedies import install
from samsemi.training.runs import describe_environment
from samsemi.weights.cache import find_fetched, weights_folder
from samsemi.weights.table import WEIGHTS


def describe_machine() -> dict[str, object]:
    """Versions, devices, backends, packaged weights; what an image with one box costs each SAM."""
    devices = ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    devices += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return {
        **describe_environment(),
        "devices": ", ".join(devices),
        "threads": torch.get_num_threads(),
        "backends": ", ".join([*SAMS, f"{HF}FOLDER"] if find_spec("transformers") else SAMS),
        "transformers": version("transformers") if find_spec("transformers") else f"missing: {install('hf')}",
        "weights_folder": str(weights_folder()),
        "weights_fetched": ", ".join(name for name in WEIGHTS if find_fetched(name)) or "none",
        **{name: hash_file(entry.weights) for name, entry in SAMS.items() if entry.weights},
        "cost": count_sams(),
    }
