"""What lies below a folder: pictures, and volumes of any format, by id."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from samsemi.data.files import count_kinds, list_files, need_folder, path_id, refuse_name, warn_linked
from samsemi.data.images import known_suffix
from samsemi.data.volumes import arrays, nifti
from samsemi.data.volumes.arrays import IMAGES, LABELS, ArrayFile
from samsemi.data.volumes.dicom import DicomFrames, group_frames
from samsemi.data.volumes.dicom_headers import Frame, is_dicom, read_frames
from samsemi.data.volumes.dicom_seg import SegFile, is_seg
from samsemi.data.volumes.nifti import NiftiFile
from samsemi.data.volumes.origins import Origin
from samsemi.data.volumes.pages import PagesFile, is_stack
from samsemi.data.volumes.sources import Unreadable, VolumeSource
from samsemi.errors import DataError

log = logging.getLogger("samsemi")

SUFFIXES = (*nifti.SUFFIXES[::-1], *arrays.NUMPY, *arrays.HDF5, ".dcm", ".dicom", ".ima")
"""Of files that are no pictures; DICOM is known by its bytes, too."""
ById = dict[str, VolumeSource | Path]
"""A volume, or an image of a format that Pillow does not know, or the file of a picture."""


def volume_suffix(path: Path) -> str | None:
    """The suffix in SUFFIXES that a file name ends in, whatever its case."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def open_volume(path: Path, of_mask: bool = False) -> VolumeSource | None:
    """The volume in a file; None where it is a picture, or of no format that is read. DICOM files are told by their bytes."""
    suffix = volume_suffix(path)
    if suffix in nifti.SUFFIXES:
        return NiftiFile(path)
    if suffix in arrays.NUMPY + arrays.HDF5:
        return ArrayFile(path, LABELS if of_mask else IMAGES)
    if known_suffix(path):
        return PagesFile(path, of_mask) if is_stack(path) else None
    if is_dicom(path):
        if of_mask and is_seg(path):
            return SegFile(path)
        return the_one(path, group_frames(read_frames(path)))
    if suffix:
        raise DataError(f"{path}: not DICOM, 'DICM' does not stand at byte 128", "export it again as DICOM, or remove it")
    return None


def the_one(path: Path, groups: Sequence[DicomFrames]) -> DicomFrames:
    """The only volume, or image, of a DICOM file."""
    if not groups:
        raise no_pixels(path)
    if len(groups) > 1:
        raise DataError(f"{path}: frames in {len(groups)} directions or sizes", "write each stack of slices as a series of its own")
    return groups[0]


def holds_volumes(folder: Path) -> bool:
    """Whether a volume, or an image that Pillow does not know, lies below a folder; opens no more than the first bytes of files."""
    return any(volume_suffix(path) or (is_stack(path) if known_suffix(path) else is_dicom(path)) for path in visible_files(folder))


def visible_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if path.is_file()]


def find_volumes(folder: Path, of_mask: bool = False) -> ById:
    """Everything below a folder that can be read, by id: its path without suffix, '/' written '__'; a DICOM series of several files by
    its folder. What is not read is counted in a warning. DataError where there is nothing, or two things of one id."""
    need_folder(folder)
    found: ById = {}
    unread: list[Path] = []
    series: dict[Path, list[Path]] = {}
    for path in visible_files(folder):
        refuse_name(path)
        if not known_suffix(path) and is_dicom(path) and not (of_mask and is_seg(path)):
            series.setdefault(path.parent, []).append(path)
            continue
        try:
            source = open_volume(path, of_mask)
        except DataError as error:
            source = Unreadable(path, error)
        suffix = volume_suffix(path) or known_suffix(path)
        if source is None and suffix is None:
            unread.append(path)
            continue
        add(found, path_id(folder, path, suffix), source or path)
    for place, files in series.items():
        for name, source in name_series(folder, place, files):
            add(found, name, source)
    if unread:
        log.warning("%s: not read: %s", folder, count_kinds(unread))
    warn_linked(folder)
    if not found:
        raise DataError(f"{folder}: no images in it", f"put pictures, DICOM or {', '.join(SUFFIXES[:6])} files there")
    return dict(sorted(found.items()))


def add(found: ById, name: str, source: VolumeSource | Path) -> None:
    """Under a new id; DataError where there is one of it already."""
    if name in found:
        raise DataError(f"{place_of(found[name])} and {place_of(source)} have the same id '{name}'", "rename one of them")
    found[name] = source


def place_of(source: VolumeSource | Path) -> Path:
    """The file, or folder, that messages name."""
    return source if isinstance(source, Path) else source.path


def name_series(folder: Path, place: Path, files: Iterable[Path]) -> Iterator[tuple[str, DicomFrames | Unreadable]]:
    """(id, volume or image) of the DICOM files in one folder; files without an image are left out, with a warning. Where a file cannot be
    read, what it may be a slice of cannot either."""
    frames: list[Frame] = []
    empty, bad = [], []
    for path in files:
        try:
            found = read_frames(path)
            frames += found
            empty += [path] if not found else []
        except DataError as error:
            bad.append(Unreadable(path, error))
    if empty:
        log.warning("%s: left out: %d DICOM files that are no images, such as %s", place, len(empty), empty[0].name)
    try:
        groups = need_one_patient(group_frames(frames), place)
    except DataError as error:
        yield path_id(folder, place, None), Unreadable(place, error)
        return
    stacks = [group for group in groups if len(group.files) > 1]
    if bad and stacks:
        yield path_id(folder, place, None), bad[0]
        return
    names = name_stacks(path_id(folder, place, None), stacks)
    for group in groups:
        path = group.files[0]
        yield (names[group] if group in names else path_id(folder, path, volume_suffix(path))), group
    for source in bad:
        yield path_id(folder, source.path, volume_suffix(source.path)), source
    if not groups and not bad:
        yield path_id(folder, place, None), Unreadable(place, no_pixels(empty[0]))


def need_one_patient(groups: list[DicomFrames], place: Path) -> list[DicomFrames]:
    """The groups of one folder; DataError where series of several files are of several patients."""
    patients = {group.patient for group in groups if len(group.files) > 1}
    if len(patients) > 1:
        raise DataError(
            f"{place}: DICOM series of {len(patients)} patients in one folder", "put the files of each patient into a folder of its own"
        )
    return groups


def no_pixels(path: Path) -> DataError:
    return DataError(f"{path}: DICOM without pixels", "give the images themselves")


def name_stacks(name: str, stacks: Sequence[DicomFrames]) -> Mapping[DicomFrames, str]:
    """The only series of a folder is named like it, several by their numbers, too: NAME__s3; by a, b, ... where these are one."""
    if len(stacks) == 1:
        return {stacks[0]: name}
    numbers = Counter(stack.frames[0].series_number for stack in stacks)
    taken: Counter[str] = Counter()
    names = {}
    for stack in stacks:
        number = stack.frames[0].series_number
        taken[number] += 1
        names[stack] = f"{name}__s{number}" + (chr(ord("a") + taken[number] - 1) if numbers[number] > 1 else "")
    return names


def find_series(origin: Origin) -> DicomFrames | None:
    """The DICOM series that a volume of a data set was prepared from; None where it was no DICOM, or is gone; DataError where its files are
    no series any more."""
    place = Path(origin.source)
    files = visible_files(place) if place.is_dir() else [place]
    groups = group_frames([frame for path in files if is_dicom(path) for frame in read_frames(path)])
    return next((group for group in groups if group.grid() == origin.grid), None)
