"""Volumes, and images of medical formats, with masks named like them: NIfTI, DICOM, arrays, TIFF of several pages; pictures among them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from samsemi.data.files import real_path
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import IMAGES, MASKS, Given, find_folder
from samsemi.data.layouts.matching import match
from samsemi.data.layouts.pairs import join_folders, refuse_masks, refuse_nested, warn_matching
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.data.volumes.dicom import DicomFrames
from samsemi.data.volumes.dicom_seg import SegFile, segment_names
from samsemi.data.volumes.find import find_volumes, holds_volumes, place_of
from samsemi.data.volumes.sources import Unreadable, VolumeSource, load_mask, slice_cases
from samsemi.errors import DataError
from samsemi.options.window import Window

log = logging.getLogger("samsemi")

Volumes = Mapping[str, VolumeSource | Path]
"""By id."""


def lacks_volumes(given: Given) -> str:
    """Some of the images must be of such a format, and it must be known where the masks lie."""
    within = stacks_in(given)
    if not within.masks:
        return f"no --masks, no {IMAGES[0]}/ and {MASKS[0]}/ of volumes"
    return "" if any(map(holds_volumes, within.images)) else "no volume, nor image of a medical format"


def stacks_in(given: Given) -> Given:
    """The folders of images and masks: given, or within the one that was given."""
    images, masks = find_folder(given.folder, *IMAGES), find_folder(given.folder, *MASKS)
    return replace(given, images=(images,), masks=masks) if not given.masks and len(given.images) == 1 and images and masks else given


def find_stacks(given: Given) -> Found:
    """A case for each slice of a volume and for each image, with its mask where there is one."""
    given = stacks_in(given)
    assert given.masks is not None, "see lacks_volumes"
    refuse_masks(given)
    refuse_nested(given.images)
    images: Volumes = join_folders({folder: find_volumes(folder) for folder in given.images})
    masks: Volumes = find_volumes(given.masks, of_mask=True)
    refuse_unreadable([*images.values(), *masks.values()])
    masks, classes = name_segments(masks)
    masks = name_masks(masks, images)
    matching = match(*({name: place_of(source) for name, source in found.items()} for found in (images, masks)))
    warn_matching(matching)
    by_path = {place_of(source): source for source in masks.values()}
    mask_of = {name: by_path[path] for name, path in matching.masks.items()}
    images = leave_out(images, mask_of)
    cases = [case for name, source in images.items() for case in cases_of(name, source, mask_of.get(name), given.window)]
    return Found(cases, describe(images, cases, len(mask_of)) + matching.note, classes)


def name_segments(masks: Volumes) -> tuple[Volumes, tuple[str, ...] | None]:
    """The masks, with the segments of DICOM-SEG files as the classes of their names, whatever their numbers; and these names. As they are,
    without names, where other masks hold numbers alone: DataError where a number then means different things."""
    files = [source for source in masks.values() if isinstance(source, SegFile)]
    if not files:
        return masks, None
    names = segment_names(files)
    if len(files) == len(masks):
        return {name: SegFile(place_of(source), names) for name, source in masks.items()}, names
    for file in files:
        if any(names[number - 1 : number] != (name,) for number, name in file.segments().items() if number):
            raise DataError(
                f"{file.path}: its segments are numbered otherwise than those of other files, and some masks hold numbers alone",
                "number the segments alike in all files, or give all masks as DICOM-SEG, whose segments have names",
            )
    return masks, None


def name_masks(masks: Volumes, images: Volumes) -> Volumes:
    """The masks; one named like a folder of images, at whatever depth, by the name of the volume in it on which it lies. DataError where
    it lies on several, or on none of several."""
    return {mask if mask in images else name_mask(mask, source, masks, images): source for mask, source in masks.items()}


def name_mask(mask: str, source: VolumeSource | Path, masks: Volumes, images: Volumes) -> str:
    """The name of the volume that a mask belongs to which is named like a folder; its own name where there is no such folder."""
    within = {
        name: image for name, image in images.items() if name.startswith(f"{mask}__") and name not in masks and not isinstance(image, Path)
    }
    volumes = {name: image for name, image in within.items() if image.is_volume}
    if isinstance(source, Path) or not volumes:
        return mask
    fitting = [*volumes] if len(volumes) == 1 else [name for name, image in volumes.items() if lies_on(source, image)]
    if len(fitting) != 1:
        found = f"fits {', '.join(fitting[:4])}" if fitting else f"lies on none of {', '.join([*volumes][:4])}"
        name = source.path.name.replace(mask, (fitting or [*volumes])[0], 1)
        raise DataError(f"{source.path}: {found}", f"name it like its series, such as {name}; the files of one series lie in one folder")
    return fitting[0]


def lies_on(mask: VolumeSource, image: VolumeSource) -> bool:
    try:
        return load_mask(mask, image) is not None
    except DataError:
        return False


def leave_out(images: Volumes, masked: Container[str]) -> Volumes:
    """The images without what lies in one folder with the series of a patient: single images, such as scouts and reports of doses; and,
    where a series has a mask, those that have none."""
    folders = defaultdict(list)
    for name, source in images.items():
        if isinstance(source, DicomFrames):
            folders[source.files[0].parent, source.patient].append((name, len(source.files) > 1))
    left = []
    for members in folders.values():
        series = [name for name, is_series in members if is_series]
        kept = [name for name in series if name in masked] or series
        left += [name for name, _ in members if kept and name not in kept and name not in masked]
    if left:
        log.warning(
            "left out: %d series or single images without a mask beside a series of the same patient, such as %s", len(left), left[0]
        )
    return {name: source for name, source in images.items() if name not in left}


def refuse_unreadable(sources: Sequence[VolumeSource | Path]) -> None:
    """The error of the first source that cannot be read; those of others are logged before."""
    errors = [source.error for source in sources if isinstance(source, Unreadable)]
    for error in errors[1:]:
        log.warning("%s", error.message)
    if errors:
        raise errors[0]


def cases_of(name: str, source: VolumeSource | Path, mask: VolumeSource | Path | None, window: Window | None) -> list[FoundCase]:
    """The cases of a volume or image."""
    if not isinstance(source, Path):
        return slice_cases(name, source, mask, window)
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
