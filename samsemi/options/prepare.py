"""The options of ``prepare``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from samsemi.errors import UsageError
from samsemi.options.fields import Field, declared
from samsemi.options.shared import WINDOW, OutputOptions
from samsemi.options.window import parse_window

LayoutName = Literal[
    "auto", "pairs", "class-folders", "busi", "knowsam", "covid-qu-ex", "nnunet", "acdc", "coco", "yolo", "labelme", "volumes"
]
"""The rows of ``data/layouts/table.py``."""
LAYOUT_HELP = f"How images and masks lie; auto looks for each of {', '.join(get_args(LayoutName)[1:])}."


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(OutputOptions):
    """Turn images and masks as they come into a data set with splits; take corrected masks back."""

    examples: ClassVar[tuple[str, ...]] = (
        r"samsemi prepare images --masks masks --out data --groups '^(p\d+)'",
        "samsemi prepare data --labels review --by 'A. Reader' --out data2",
    )

    images: Annotated[
        tuple[Path, ...],
        Field("Input", "Folders of images, sub-folders included, or one with images and masks.", argument=True, metavar="DIR", reads=True),
    ]
    masks: Annotated[
        Path | None,
        Field("Input", "Folder of masks, named like their images; or outlines: a file or folder.", metavar="PATH", reads=True),
    ] = None
    layout: Annotated[LayoutName, Field("Input", LAYOUT_HELP, metavar="NAME")] = "auto"
    target: Annotated[Literal["lung", "infection"] | None, Field("Input", "Which masks of COVID-QU-Ex.")] = None
    out: Annotated[Path, Field("Input", "Data set folder to write.", metavar="DIR")]
    labeled: Annotated[
        float | None,
        Field("Input", "Simulation: labeled share of the masks (1: all), or how many; the rest are hidden. Default: all.", min=0.0),
    ] = None
    val: Annotated[float, Field("Input", "Validation share of the cases that have a mask, or how many cases.", min=0.0)] = 0.1
    test: Annotated[float, Field("Input", "Test share, or how many cases.", min=0.0)] = 0.1
    groups: Annotated[
        str | None,
        Field("Input", "Regular expression that finds the patient in an image's name; patients are never split.", metavar="REGEX"),
    ] = None
    classes: Annotated[str | None, Field("Input", "Names of classes 1, 2, ..., joined by commas.", metavar="A,B,...")] = None
    mask_values: Annotated[
        Literal["auto", "indices", "binary", "nonzero"],
        Field(
            "Input",
            "Masks are indices (255: ignored), binary (from 128 on one class), nonzero (all above 0 one class); auto finds out.",
            metavar="KIND",
        ),
    ] = "auto"
    ignore_value: Annotated[int | None, Field("Input", "Value in the masks that means ignored, besides 255.", min=0, max=255)] = None
    color_map: Annotated[
        Path | None,
        Field("Input", "CSV file of lines name,r,g,b: what colors in masks mean.", metavar="FILE", reads=True),
    ] = None
    invert: Annotated[bool, Field("Input", "Exchange background and class, of masks of one class.")] = False
    window: Annotated[str, WINDOW] = "auto"
    split: Annotated[
        Path | None, Field("Input", "CSV file with columns id,split (and group), instead of shares.", metavar="FILE", reads=True)
    ] = None
    spacing_mm: Annotated[float | None, Field("Input", "Size of a pixel in mm, where all images share one.", min=1e-6)] = None
    labels: Annotated[
        Path | None,
        Field(
            "Review",
            "Folder of `mine --review`, corrected there or in --masks: its cases are labeled. IMAGES is the data set that was mined.",
            metavar="DIR",
            reads=True,
        ),
    ] = None
    by: Annotated[str | None, Field("Review", "Who has corrected them; default: who is logged in.", metavar="NAME")] = None
    confirm: Annotated[bool, Field("Review", "Masks that are as proposed are labels, too: somebody has looked at them.")] = False
    copy: Annotated[bool, Field("Input", "Copy the images, so that the data set can be moved.")] = False
    seed: Annotated[int, Field("Input", "Seed of the split.", min=0)] = 0

    def __post_init__(self):
        super().__post_init__()
        parse_window(self.window)
        for name in ("labeled", "val", "test"):
            value = getattr(self, name)
            if value is not None and value > 1 and not float(value).is_integer():
                raise UsageError(f"--{name} {value} is neither a share nor a number of cases", "give 0..1, or a whole number above 1")

        if self.ignore_value is not None and self.mask_values == "nonzero":
            raise UsageError("--ignore-value and --mask-values nonzero exclude each other", "leave one of them out")
        check_labels(self)

    @property
    def hides_masks(self) -> bool:
        """True where only a part of the masks is to be used; 1 is the share of all."""
        return self.split is None and self.labeled not in (None, 1)


OF_LABELS = frozenset({"images", "masks", "labels", "by", "confirm", "out", "copy", "overwrite", "break_lock"})
"""Options that may stand beside --labels: all else stays as the data set has it."""
LONGEST_PERSON = 100
"""Letters in the name of a person."""


def check_labels(options: PrepareOptions) -> None:
    """UsageError for options that say nothing with --labels, or nothing without."""
    if options.labels is None:
        if options.by is not None or options.confirm:
            raise UsageError(f"{'--confirm' if options.confirm else '--by'} goes with --labels", "give --labels DIR, or leave it out")
        return
    if len(options.images) > 1:
        raise UsageError(f"--labels: {len(options.images)} folders were given", "give the one data set that was mined")
    known = declared(PrepareOptions)
    other = [option.flag for name, option in known.items() if name not in OF_LABELS and getattr(options, name) != option.default]
    if other:
        raise UsageError(f"--labels and {other[0]} exclude each other: splits and classes stay as they are", f"leave {other[0]} out")
    if options.by is not None and not (options.by.strip() and options.by.isprintable() and len(options.by) <= LONGEST_PERSON):
        raise UsageError(f"--by {ascii(options.by):.60}: no name of a person", f"give one of up to {LONGEST_PERSON} letters, in one line")
