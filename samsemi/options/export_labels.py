"""The options of ``export-labels``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import Field
from samsemi.options.shared import OutputOptions, PolicyOptions


@dataclass(frozen=True, kw_only=True)
class ExportLabelsOptions(OutputOptions, PolicyOptions):
    """Write a store's accepted pseudo-labels for other programs: PNG masks, or COCO."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi export-labels sam.h5 --out labels",
        "samsemi export-labels sam.h5 --dataset data --format coco --out coco",
    )

    store: Annotated[Path, Field("Input", "Pseudo-label store, made by `samsemi mine`.", argument=True, metavar="FILE", reads=True)]
    out: Annotated[Path, Field("Input", "Folder to write: ID.png, or coco.json.", metavar="DIR")]
    dataset: Annotated[
        Path | None,
        Field("Input", "Data set that was mined: its classes and, for coco, names of the image files.", metavar="DIR", reads=True),
    ] = None
    format: Annotated[
        Literal["png", "coco"],
        Field("Input", "png: a mask per image, values are class indices. coco: a mask per object, with its scores; needs --dataset."),
    ] = "png"
    ignore_below: Annotated[
        float,
        Field("Acceptance", "Pixels of a lower weight are 255, ignored, in PNG: those of rejected objects weigh 0.", min=0.0, max=1.0),
    ] = 0.01

    def __post_init__(self):
        super().__post_init__()
        if self.format == "coco" and self.dataset is None:
            raise UsageError("--format coco needs --dataset", "give the data set that was mined: it names classes and image files")
