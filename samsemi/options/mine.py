"""The options of ``mine``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from samsemi.errors import UsageError
from samsemi.options.fields import LARGEST_BATCH, Field
from samsemi.options.sams import Masks, find_entry
from samsemi.options.shared import (
    Dataset,
    DeviceOptions,
    PolicyOptions,
    ResumableOptions,
    SamCheckpoint,
    SamName,
)

PROMPT_KINDS = ("box", "point", "mask")
PROMPT_CHOICES = ("box", "point", "box+point", "box+mask", "point+mask", "box+point+mask", "box,point", "box,point,box+point")
"""What a shell completes."""
MOST_PARTS = 10_000
"""Shares of a mining."""
LEAST_ZOOM = 1.2
"""Times the box: less leaves SAM no room around it."""


@dataclass(frozen=True, kw_only=True)
class MineOptions(ResumableOptions, DeviceOptions, PolicyOptions):
    """Prompt SAM with the model's masks of the unlabeled cases; store SAM's masks."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi mine data --model warm --out sam.h5 --review review",
        "samsemi mine data --model warm --out sam.h5 --sam vit_b --dry-run",
    )

    dataset: Dataset
    model: Annotated[
        tuple[Path, ...],
        Field("Input", "Run of a training; repeated: their mean map.", metavar="DIR", reads=True, hashed=True),
    ]
    fold_models: Annotated[bool, Field("Input", "Also the models of --model's folds.")] = False
    out: Annotated[Path, Field("Input", "Pseudo-label store to write (HDF5).", metavar="FILE", neutral=True)]
    sam: SamName = "tiny"
    sam_checkpoint: SamCheckpoint = None
    prompts: Annotated[
        str,
        Field(
            "Prompts",
            "box, point, mask, joined by +; alternatives, joined by commas, are all prompted and averaged.",
            metavar="KINDS",
            choices=PROMPT_CHOICES,
        ),
    ] = "box+point"
    box_margin: Annotated[int, Field("Prompts", "Pixels added on each side of the box.", min=0)] = 2
    jitters: Annotated[int, Field("Prompts", "Repetitions with the box moved.", min=0, max=100)] = 0
    passes: Annotated[int, Field("Prompts", "2: again with the first mask as mask prompt.", min=1, max=5)] = 1
    positive_points: Annotated[int, Field("Prompts", "Points in each object.", min=1)] = 1
    negative_points: Annotated[int, Field("Prompts", "Negative points beside each object, in its box.", min=0)] = 1
    other_points: Annotated[int, Field("Prompts", "Negative points on other classes' objects.", min=0)] = 0
    min_area: Annotated[int, Field("Prompts", "Smallest object, in pixels of the image.", min=1)] = 64
    flips: Annotated[bool, Field("Prompts", "Test-time augmentation of the model's map.", off="--no-flips")] = True
    calibrate: Annotated[
        bool, Field("Acceptance", "Fit what is accepted to val, and to MODEL's out-of-fold predictions.", off="--no-calibrate")
    ] = True
    target_precision: Annotated[
        float, Field("Acceptance", "Share of the accepted objects that should be right (IoU 0.5 with a true one).", min=0.0, max=1.0)
    ] = 0.8
    allow_low_precision: Annotated[
        bool, Field("Acceptance", "Accept the best that can be reached, even where less than half of it should be right.")
    ] = False
    zoom: Annotated[
        float | None,
        Field(
            "SAM",
            "Window in which small objects are seen, in times their box; 0: none; default: as suits --sam.",
            min=0.0,
            max=100.0,
        ),
    ] = None
    masks: Annotated[
        Masks | None,
        Field("SAM", "single, best-of-three, or auto: the best of three for a lone point; default: as suits --sam.", metavar="WHICH"),
    ] = None
    embeddings: Annotated[
        Path | None,
        Field("SAM", "Cache of SAM's image embeddings (HDF5), kept for the next time.", metavar="FILE", reads=True, hashed=True),
    ] = None
    batch_size: Annotated[int, Field("Run", "Images per batch of the model and of SAM's encoder.", min=1, max=LARGEST_BATCH)] = 8
    compile: Annotated[
        bool, Field("Run", "On CUDA, compile SAM's encoder first: `samsemi bench` says from how many images on that pays.", neutral=True)
    ] = False
    review: Annotated[
        Path | None,
        Field("Review", "Folder to write: the cases whose correction would teach most, as PNG and COCO.", metavar="DIR", neutral=True),
    ] = None
    review_cases: Annotated[int, Field("Review", "How many of them.", min=1, neutral=True)] = 20
    overlays: Annotated[int, Field("Run", "Pictures of so many cases, beside the store: model, prompts, SAM.", min=0, neutral=True)] = 0
    part: Annotated[
        str | None,
        Field("Run", "3/16: mine the third of sixteen shares alone, for job arrays; --merge follows.", metavar="I/N", neutral=True),
    ] = None
    merge: Annotated[bool, Field("Run", "Make the store of all parts, which are there; calibrates, mines nothing.", neutral=True)] = False
    engine: Annotated[
        Literal["here", "ray"],
        Field("Run", "ray: by the workers of a Ray cluster (RAY_ADDRESS), or of this machine; samsemi[ray].", neutral=True),
    ] = "here"
    dry_run: Annotated[bool, Field("Run", "Write nothing: time, disk and memory, measured on a few images.", neutral=True)] = False

    @property
    def goes_on(self) -> bool:
        """Whether parts that are there are taken up."""
        return self.resume or self.part is not None or self.merge

    def __post_init__(self):
        super().__post_init__()
        parse_prompts(self.prompts)
        check_part(self)
        if self.zoom and self.zoom < LEAST_ZOOM:
            raise UsageError(
                f"--zoom {self.zoom:g} leaves no room around the box", f"give {LEAST_ZOOM:g} or more, or 0 for the whole image"
            )
        entry = find_entry(self.sam)
        if self.zoom is None:
            object.__setattr__(self, "zoom", entry.zoom if entry else 0.0)
        if self.masks is None and entry:
            object.__setattr__(self, "masks", entry.masks)


def check_part(options: MineOptions) -> None:
    """UsageError for a share that cannot be, or for options that exclude each other."""
    given = [flag for flag in ("part", "merge", "dry_run", "overwrite") if getattr(options, flag)]
    if len(given) > 1:
        first, second = ("--" + flag.replace("_", "-") for flag in given[:2])
        raise UsageError(f"{first} and {second} exclude each other", "give one of them")
    if options.part is not None:
        parse_part(options.part)
        for flag in ("overlays", "review"):
            if getattr(options, flag):
                raise UsageError(f"--{flag}: a part is not enough for pictures", "give it with --merge")
    if options.engine == "ray" and options.embeddings:
        raise UsageError("--engine ray: a cache of --embeddings belongs to one process", "leave it out")


def parse_part(text: str) -> tuple[int, int]:
    """'3/16' -> (3, 16); UsageError for what is no share."""
    place, slash, count = text.partition("/")
    if not (slash and place.isdecimal() and count.isdecimal() and 1 <= int(place) <= int(count) <= MOST_PARTS):
        raise UsageError(f"--part {text}: no share", "give the number of the share and of how many, such as 3/16")
    return int(place), int(count)


def parse_prompts(text: str) -> tuple[tuple[str, ...], ...]:
    """'box,box+point' -> (('box',), ('box', 'point')); UsageError for a kind that does not exist."""
    alternatives = tuple(tuple(part.split("+")) for part in text.split(","))
    for kinds in alternatives:
        for kind in kinds:
            if kind not in PROMPT_KINDS:
                raise UsageError(f"--prompts {text}: unknown prompt kind '{kind}'", f"join some of {', '.join(PROMPT_KINDS)} by +")
        if len(set(kinds)) < len(kinds):
            raise UsageError(f"--prompts {text}: a kind is named twice", "name each kind once")
        if kinds == ("mask",):
            raise UsageError(f"--prompts {text}: a mask alone does not prompt SAM", "give box+mask or point+mask")
    if len({frozenset(kinds) for kinds in alternatives}) < len(alternatives):
        raise UsageError(f"--prompts {text}: an alternative is named twice", "name each once")
    return alternatives
