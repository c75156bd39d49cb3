"""The options of ``eval``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import Field
from samsemi.options.shared import (
    Dataset,
    DeviceOptions,
    OutputOptions,
    PolicyOptions,
)


@dataclass(frozen=True, kw_only=True)
class EvalOptions(OutputOptions, DeviceOptions, PolicyOptions):
    """Measure a model, predicted masks or a store against the masks of a split."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi eval data --model warm --out eval-warm",
        "samsemi eval data --model mined --out eval-mined --against eval-warm",
    )

    dataset: Dataset
    out: Annotated[Path, Field("Input", "Folder to write: metrics.json, metrics.csv, overlays.", metavar="DIR")]
    model: Annotated[Path | None, Field("Input", "Run folder of the model.", metavar="DIR", reads=True)] = None
    predictions: Annotated[
        Path | None,
        Field("Input", "Instead: folder of masks ID.png (class indices; of one class also 0/255).", metavar="DIR", reads=True),
    ] = None
    store: Annotated[
        Path | None, Field("Input", "Instead: pseudo-label store, its labels against the hidden truth.", metavar="FILE", reads=True)
    ] = None
    split: Annotated[
        Literal["labeled", "unlabeled", "val", "test"] | None,
        Field("Input", "Cases to measure; default: test. Of a store always the unlabeled.", metavar="labeled|val|test"),
    ] = None
    against: Annotated[
        Path | None, Field("Input", "Folder of an earlier eval of the same cases: paired differences to it.", metavar="DIR", reads=True)
    ] = None
    tolerance: Annotated[float, Field("Run", "Tolerance of the normalized surface distance, in pixels (mm with a spacing).", min=0.0)] = 2.0
    overlays: Annotated[int, Field("Run", "Pictures of so many of the worst cases.", min=0)] = 12
    seed: Annotated[int, Field("Run", "Seed of the bootstrap.", min=0)] = 0

    def __post_init__(self):
        super().__post_init__()
        given = [name for name in ("model", "predictions", "store") if getattr(self, name) is not None]
        if not given:
            raise UsageError("eval needs something to measure", "give --model RUN, --predictions DIR or --store FILE")
        if len(given) > 1:
            raise UsageError("eval measures one thing at a time", "give one of --model, --predictions, --store")
        if self.store is not None and self.split not in (None, "unlabeled"):
            raise UsageError(f"--split {self.split}: a store holds the unlabeled cases alone", "leave --split out")
        if self.store is None and self.split == "unlabeled":
            raise UsageError(
                "--split unlabeled: the truth of unlabeled cases is only for measuring a store", "give --store, or another --split"
            )
