"""Volumes, and images of medical formats, with masks named like them: NIfTI, DICOM, arrays, TIFF of several pages; pictures among them."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.pairs import match_masks, real_path
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.data.volumes.find import find_volumes, holds_volumes
from samsemi.data.volumes.sources import VolumeSource, slice_cases
from samsemi.errors import DataError

log = logging.getLogger("samsemi")


def lacks_volumes(given: Given) -> str:
    """Some of the images, or masks, must be of such a format."""
    if not given.masks:
        return "no --masks"
    return "" if given.folder.is_dir() and holds_volumes(given.folder) else "no volume, nor image of a medical format"


def find_cases(given: Given) -> Found:
    """A case for each slice of a volume and for each image, with its mask where there is one."""
    assert given.masks is not None, "see lacks_volumes"
    images = find_volumes(given.folder)
    masks = find_volumes(given.masks, of_mask=True)
    if real_path(given.masks).is_relative_to(real_path(given.folder)):
        raise DataError(f"--masks {given.masks} lies in {given.folder}", "put images and masks into folders of their own")
    paths = {name: place_of(source) for name, source in masks.items()}
    matched, suffix, homeless = match_masks({name: place_of(source) for name, source in images.items()}, paths)
    if homeless:
        log.warning("%d masks belong to no image, such as %s", len(homeless), homeless[0])
    mask_of = {name: masks[f"{name}{suffix}"] for name in matched}
    cases = [case for name, source in images.items() for case in cases_of(name, source, mask_of.get(name), given)]
    return Found(cases, describe(images, cases, len(matched)) + (f" (mask names end in '{suffix}')" if suffix else ""))


def place_of(source: VolumeSource | Path) -> Path:
    return source if isinstance(source, Path) else source.path


def cases_of(name: str, source: VolumeSource | Path, mask: VolumeSource | Path | None, given: Given) -> list[FoundCase]:
    """The cases of a volume or image."""
    if not isinstance(source, Path):
        return slice_cases(name, source, mask, given.window)
    if mask is not None and not isinstance(mask, Path):
        raise DataError(f"{mask.path}: a volume, its image {source} is a picture", "give its mask as a picture, too")
    return [FoundCase(name, ImageFile(real_path(source)), MaskFile(mask) if mask else None, group=name)]


def describe(images: Mapping[str, VolumeSource | Path], cases: list[FoundCase], masks: int) -> str:
    """'4 volumes of 96 slices (axial), 3 with a mask'."""
    planes = Counter(source.grid().plane for source in images.values() if not isinstance(source, Path) and source.is_volume)
    slices = sum(case.volume is not None for case in cases)
    shown = ", ".join(plane if len(planes) == 1 else f"{count} {plane}" for plane, count in planes.most_common() if plane)
    volumes = f"{planes.total()} volumes of {slices} slices" + (f" ({shown})" if shown else "") if slices else ""
    others = len(cases) - slices
    return f"{' and '.join(filter(None, (volumes, f'{others} images' if others else '')))}, {masks} with a mask"
