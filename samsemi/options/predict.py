"""The options of ``predict``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from samsemi.options.fields import LARGEST_BATCH, Field
from samsemi.options.shared import (
    WINDOW,
    AnyRun,
    DeviceOptions,
    ResumableOptions,
)
from samsemi.options.window import parse_window


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ResumableOptions, DeviceOptions):
    """Segment images: a mask of class indices for each."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi predict new_images --model mined --out masks --overlays",
        "samsemi predict scan.nii.gz --model mined --out masks",
    )

    images: Annotated[
        Path,
        Field(
            "Input",
            "Folder of images or volumes, sub-folders are searched; or one of them; or a data set.",
            argument=True,
            metavar="PATH",
            reads=True,
        ),
    ]
    model: AnyRun
    out: Annotated[Path, Field("Input", "Folder to write: ID.png, of volumes ID.nii.gz.", metavar="DIR")]
    window: Annotated[str | None, WINDOW] = None
    dicom_seg: Annotated[bool, Field("Run", "Also ID.seg.dcm of each DICOM series.")] = False
    overlays: Annotated[bool, Field("Run", "Also overlays/ID.png: the outline on the image.")] = False
    probabilities: Annotated[bool, Field("Run", "Also probabilities/ID.npz: array probs, (K, H, W) float16.")] = False
    batch_size: Annotated[int, Field("Run", "Images per batch.", min=1, max=LARGEST_BATCH)] = 8

    def __post_init__(self):
        super().__post_init__()
        if self.window is not None:
            parse_window(self.window)
