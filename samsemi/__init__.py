"""Semi-supervised medical image segmentation by mining the Segment Anything Model.

Each command is a function of the same name (``export_labels`` for ``export-labels``, ``weights_fetch`` for ``weights fetch``) that takes
its options as keywords and returns, as a dict, what ``--json`` prints:

    from samsemi import mine
    mine(dataset="kvasir", model="runs/warm", out="sam.h5", sam="tiny")
"""

import logging
from typing import Any

logging.getLogger("samsemi").addHandler(logging.NullHandler())

__all__ = [
    "adapt",
    "bench",
    "check",
    "distill",
    "eval",
    "export",
    "export_labels",
    "finetune",
    "info",
    "mine",
    "predict",
    "prepare",
    "report",
    "warmstart",
    "weights_fetch",
    "weights_list",
    "weights_verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("samsemi")
    if name not in __all__:
        raise AttributeError(f"module 'samsemi' has no attribute '{name}'")
    from samsemi.functions import function_of

    globals()[name] = function_of(name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", *(name for name in globals() if name.startswith("__"))])
