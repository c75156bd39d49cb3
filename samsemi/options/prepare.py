"""The options of ``prepare``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from samsemi.errors import UsageError
from samsemi.options.shared import (
    OutputOptions,
)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(OutputOptions):
    """Turn a folder of images and one of masks into a data set with splits."""

    images: Annotated[Path, Argument(help="Folder of images; sub-folders are searched.", show_default=False)]
    masks: Annotated[Path | None, Option(help="Folder of masks, matched to the images by file name, with or without a suffix.")] = None
    out: Annotated[Path, Option(help="Data set folder to write.", show_default=False)]
    labeled: Annotated[float, Option(min=0.0, help="Labeled share of the cases that have a mask; above 1: how many cases.")] = 0.1
    val: Annotated[float, Option(min=0.0, help="Validation share, or how many cases.")] = 0.1
    test: Annotated[float, Option(min=0.0, help="Test share, or how many cases.")] = 0.1
    groups: Annotated[
        str | None, Option(help="Regular expression that finds the patient in an image's name; patients are never split.")
    ] = None
    classes: Annotated[str | None, Option(help="Names of classes 1, 2, ..., joined by commas.")] = None
    split: Annotated[Path | None, Option(help="CSV file with columns id,split (and group), instead of shares.")] = None
    spacing_mm: Annotated[float | None, Option(min=1e-6, help="Size of a pixel in mm, where all images share one.")] = None
    seed: Annotated[int, Option(min=0, help="Seed of the split.")] = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("labeled", "val", "test"):
            value = getattr(self, name)
            if value > 1 and not float(value).is_integer():
                raise UsageError(f"--{name} {value} is neither a share nor a number of cases", "give 0..1, or a whole number above 1")
