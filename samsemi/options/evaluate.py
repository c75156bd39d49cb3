"""The options of ``eval``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    Dataset,
    DeviceOptions,
    OutputOptions,
    PolicyOptions,
)


@dataclass(frozen=True, kw_only=True)
class EvalOptions(OutputOptions, DeviceOptions, PolicyOptions):
    """Measure a model, a folder of predicted masks or a store against the masks of a split."""

    dataset: Dataset
    out: Annotated[Path, Option(help="Folder to write: metrics.json, metrics.csv, overlays.", show_default=False)]
    model: Annotated[Path | None, Option(help="Run folder of the model.")] = None
    predictions: Annotated[Path | None, Option(help="Folder of masks ID.png (class indices) instead of a model.")] = None
    store: Annotated[Path | None, Option(help="Pseudo-label store instead of a model: its labels against the hidden truth.")] = None
    split: Annotated[
        Literal["labeled", "unlabeled", "val", "test"] | None, Option(help="Cases to measure; default: test, with --store unlabeled.")
    ] = None
    against: Annotated[Path | None, Option(help="Folder of an earlier eval of the same cases: paired differences to it.")] = None
    tolerance: Annotated[float, Option(min=0.0, help="Tolerance of the normalized surface distance, in pixels (mm with a spacing).")] = 2.0
    overlays: Annotated[int, Option(min=0, help="Pictures of so many of the worst cases.")] = 12
    seed: Annotated[int, Option(min=0, help="Seed of the bootstrap.")] = 0

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in ("model", "predictions", "store") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError("eval measures one thing at a time", "give one of --model, --predictions, --store")
        if self.split is not None and (self.split == "unlabeled") != (self.store is not None):
            raise UsageError(
                "the truth of unlabeled cases is only for measuring a store", "give --store together with --split unlabeled, or neither"
            )
