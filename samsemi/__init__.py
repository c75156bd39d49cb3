"""Semi-supervised medical image segmentation by mining the Segment Anything Model.

Each command is a function of the same name that takes its options as keywords and returns its result as a dict:

    from samsemi import mine
    mine(dataset="kvasir", model="runs/warm", out="sam.h5", sam="tiny")
"""

from importlib import import_module

__all__ = ["adapt", "check", "distill", "eval", "finetune", "info", "mine", "predict", "prepare", "warmstart"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'samsemi' has no attribute '{name}'")
    module, options = import_module("samsemi.options.commands").STAGES[name]

    def stage(**values: object) -> dict:
        return getattr(import_module(f"samsemi.stages.{module}"), module)(options(**values))

    stage.__name__ = stage.__qualname__ = name
    stage.__doc__ = options.__doc__
    return stage
