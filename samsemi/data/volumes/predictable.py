"""What masks can be predicted for: images and volumes in folders, single ones, and the cases of a data set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samsemi.data.dataset import Case, is_dataset, read_case_image, read_dataset
from samsemi.data.files import find_images, kind_of, warn_unread
from samsemi.data.images import SUFFIXES as PICTURES
from samsemi.data.images import known_suffix, log_remarks
from samsemi.data.sources import ImageFile, ImageSource
from samsemi.data.volumes.assembly import is_gapless, slices_by_volume
from samsemi.data.volumes.find import SUFFIXES, find_volumes, holds_volumes, open_volume, volume_suffix
from samsemi.data.volumes.origins import Origin, read_origins
from samsemi.data.volumes.sources import SliceImage, VolumeSource
from samsemi.errors import DataError
from samsemi.options.window import Window


@dataclass(frozen=True)
class CaseImage:
    """The image of a case of a data set, which must be the one that was prepared."""

    case: Case
    stays: bool = True

    @property
    def path(self) -> Path:
        return self.case.image

    def read(self) -> np.ndarray:
        return read_case_image(self.case)

    def remarks(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Predictable:
    """By id."""

    images: Mapping[str, ImageSource]
    volumes: Mapping[str, VolumeSource] = field(default_factory=dict)
    """Of which no image is one of ``images``."""
    slices: Mapping[str, list[Case]] = field(default_factory=dict)
    """Volumes of a data set, whose slices are among ``images``, in their order."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where these come from, as far as it is known."""


def find_predictable(path: Path, window: Window | None) -> Predictable:
    """All that a folder, a file or a data set holds; what is not read is counted in a warning, what is done to images in a note."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", "check the path")
    if is_dataset(path):
        return of_dataset(path)
    if path.is_dir() and not holds_volumes(path):
        images: dict[str, ImageSource] = {name: ImageFile(file) for name, file in find_images(path).items()}
        warn_unread(path)
        found = Predictable(images)
    else:
        found = of_sources(find_volumes(path) if path.is_dir() else one_file(path), window)
    log_remarks("images", Counter(remark for image in found.images.values() if image.stays for remark in image.remarks()))
    return found


def one_file(path: Path) -> dict[str, VolumeSource | Path]:
    """A single file by the id that it would have in a folder."""
    source = open_volume(path)
    suffix = volume_suffix(path) or known_suffix(path)
    if source is None and suffix is None:
        raise DataError(f"{path}: not read: 1 {kind_of(path.name)}", f"convert it: {', '.join((*PICTURES, *SUFFIXES))} are read")
    return {path.name[: -len(suffix)] if suffix else path.name: source or path}


def of_sources(found: Mapping[str, VolumeSource | Path], window: Window | None) -> Predictable:
    images: dict[str, ImageSource] = {}
    volumes: dict[str, VolumeSource] = {}
    for name, source in found.items():
        if isinstance(source, Path):
            images[name] = ImageFile(source)
        elif is_volume(source):
            volumes[name] = source
        else:
            images[name] = SliceImage(source, 0, window)
    return Predictable(images, volumes)


def is_volume(source: VolumeSource) -> bool:
    """False for what cannot be read, too."""
    try:
        return source.is_volume
    except DataError:
        return False


def of_dataset(folder: Path) -> Predictable:
    """All cases, and the volumes of which every slice between the first and the last is a case."""
    dataset = read_dataset(folder)
    slices = slices_by_volume(dataset.cases.values())
    whole = {name: cases for name, cases in slices.items() if is_gapless([case.slice or 0 for case in cases])}
    return Predictable({case.id: CaseImage(case) for case in dataset.cases.values()}, slices=whole, origins=read_origins(folder))
