"""The options of ``bench``."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from samsemi.errors import UsageError
from samsemi.options.fields import LARGEST_BATCH, Field
from samsemi.options.sams import NETWORKS
from samsemi.options.shared import DeviceOptions

BENCHED = tuple(name for name in NETWORKS if name != "medsam")
"""SAMs that segment-anything's own predictor feeds as they were trained."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions(DeviceOptions):
    """Measure this machine: mining against the plain SamPredictor loop, the cache, the store, training."""

    examples: ClassVar[tuple[str, ...]] = (
        "samsemi bench",
        "samsemi bench --sam vit_b --images 32 --image-size 512 --device cuda",
    )

    sam: Annotated[
        tuple[str, ...],
        Field(
            "SAM",
            f"{', '.join(BENCHED)}; repeated: one after the other. All but tiny with random weights.",
            metavar="NAME",
            choices=BENCHED,
        ),
    ] = ("tiny",)
    images: Annotated[int, Field("Run", "Drawn images.", min=1, max=100_000)] = 8
    image_size: Annotated[int, Field("Run", "Side of an image in pixels.", min=64, max=4096, metavar="N")] = 256
    objects: Annotated[int, Field("Run", "Objects in each image, prompted with box and points.", min=1, max=64)] = 4
    batch_size: Annotated[int, Field("Run", "Images per batch.", min=1, max=LARGEST_BATCH)] = 8
    rounds: Annotated[int, Field("Run", "Repetitions, in each of which everything has its turn; medians count.", min=1)] = 3
    train: Annotated[bool, Field("Run", "Also a U-Net++ as `warmstart` trains it by default.", off="--no-train")] = True

    def __post_init__(self):
        super().__post_init__()
        unknown = [name for name in self.sam if name not in BENCHED]
        if unknown:
            raise UsageError(f"--sam {unknown[0]}: not one that the plain loop can feed", f"one of {', '.join(BENCHED)}")
