"""What a layout makes of foreign folders."""

from collections.abc import Sequence
from dataclasses import dataclass

from samsemi.data.about import MOST_CLASSES
from samsemi.data.sources import ImageSource, MaskSource
from samsemi.errors import DataError


@dataclass(frozen=True)
class FoundCase:
    """One image of a foreign data set, and its mask where there is one."""

    id: str
    image: ImageSource
    mask: MaskSource | None
    group: str
    """The patient, or the id where none is known."""
    split: str | None = None
    """Where the data set has splits of its own; None is dealt. The mask of an unlabeled case is its hidden truth."""
    volume: str | None = None
    """The name of the volume of which the image is a slice."""
    slice: int | None = None
    """Which slice of it, from 0."""
    spacing: tuple[float, ...] | None = None
    """Between slices, rows and columns (z y x), or between rows and columns alone (y x), in mm."""


@dataclass(frozen=True)
class Found:
    """The cases of a foreign data set, and what was noticed on the way."""

    cases: Sequence[FoundCase]
    note: str
    """One line for the user."""
    classes: tuple[str, ...] | None = None
    """Names of classes 1, 2, ... where the data set has them."""
    ignored: int | None = None
    """The value in its masks that means ignored, besides 255."""

    def __post_init__(self):
        if self.classes and len(self.classes) >= MOST_CLASSES:
            raise DataError(f"{len(self.classes)} classes, at most {MOST_CLASSES - 1} can be", "join some of them, or leave some out")
        refuse_same_ids(self.cases)


def refuse_same_ids(cases: Sequence[FoundCase]) -> None:
    """DataError for two images that would be one case, such as a picture called like a slice of a volume."""
    first: dict[str, FoundCase] = {}
    for case in cases:
        other = first.setdefault(case.id, case)
        if other is not case:
            slices = f": slices of the volume {volume} are called {volume}__000, ..." if (volume := case.volume or other.volume) else ""
            raise DataError(f"{other.image.path} and {case.image.path} both have the id '{case.id}'", f"rename one of them{slices}")
