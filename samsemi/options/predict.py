"""The options of ``predict``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from samsemi.options.shared import (
    DeviceOptions,
    ModelRun,
    ResumableOptions,
)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ResumableOptions, DeviceOptions):
    """Segment a folder of images: masks of class indices at the size of each image."""

    images: Annotated[Path, Argument(help="Folder of images; sub-folders are searched.", show_default=False)]
    model: ModelRun
    out: Annotated[Path, Option(help="Folder to write: ID.png.", show_default=False)]
    overlays: Annotated[bool, Option("--overlays", help="Also overlays/ID.png: the outline on the image.")] = False
    probabilities: Annotated[bool, Option("--probabilities", help="Also probabilities/ID.npz: array probs, (K, H, W) float16.")] = False
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 8
