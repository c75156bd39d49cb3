"""DICOM-SEG: masks of a DICOM series, read and written through highdicom."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from samsemi.data.volumes.dicom import TO_RAS, DicomFrames
from samsemi.data.volumes.dicom_headers import quiet_pydicom
from samsemi.data.volumes.volume import Grid, Volume, as_affine, need_library, need_room, spacing_of
from samsemi.errors import DataError
from samsemi.outputs import whole_file

SCHEME = "99SAMSEMI"
"""Of codes for classes, whose names are the user's own."""
MAKER = "samsemi"


def is_seg(path: Path) -> bool:
    """Whether a DICOM file holds masks."""
    with quiet_pydicom(path) as pydicom:
        return bool(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality") == "SEG")


@dataclass(frozen=True)
class SegFile:
    """A DICOM-SEG file; frames without any segment may be left out of it."""

    path: Path
    classes: tuple[str, ...] = ()
    """Names of classes 1, 2, ...: a segment is of the class that has its name. Without them segment n is class n."""
    is_volume: bool = True

    def segments(self) -> dict[int, str]:
        """Number -> name of its segments."""
        with quiet_pydicom(self.path) as pydicom:
            return segments_of(pydicom.dcmread(self.path, stop_before_pixels=True, specific_tags=["SegmentSequence"]))

    def grid(self) -> Grid:
        return self.read().grid

    def read(self) -> Volume:
        highdicom = need_library("highdicom", self.path)
        with quiet_pydicom(self.path) as pydicom:
            header = pydicom.dcmread(self.path, stop_before_pixels=True)
            need_room((int(header.NumberOfFrames), int(header.Rows), int(header.Columns)), 1, self.path)
            with named_overlap(self.path):
                volume = highdicom.seg.segread(str(self.path)).get_volume(combine_segments=True, dtype=np.uint8)
            need_room(volume.shape, 1, self.path)
            affine = TO_RAS @ volume.affine
            numbers = self.as_classes(volume.array, segments_of(header)) if self.classes else volume.array
        return Volume(numbers, Grid(volume.array.shape, as_affine(affine), spacing_of(affine)))

    def as_classes(self, numbers: np.ndarray, segments: Mapping[int, str]) -> np.ndarray:
        """Numbers of segments -> class indices."""
        class_of = np.zeros(256, dtype=np.uint8)
        for number, name in segments.items():
            class_of[number] = self.classes.index(name) + 1 if number else 0
        return class_of[numbers]


def segments_of(header: Any) -> dict[int, str]:
    """Number -> name of the segments that a header lists."""
    return {int(segment.SegmentNumber): str(segment.SegmentLabel).strip() for segment in header.SegmentSequence}


def segment_names(files: Sequence[SegFile]) -> tuple[str, ...]:
    """The names of all segments of some files, each once, in the order of their numbers."""
    found = sorted({(number, name) for file in files for number, name in file.segments().items() if number})
    return tuple(dict.fromkeys(name for _, name in found))


@contextmanager
def named_overlap(path: Path) -> Iterator[None]:
    """DataError where highdicom cannot make one map of segments that overlap."""
    try:
        yield
    except RuntimeError as error:
        if "overlap" not in str(error):
            raise
        raise DataError(f"{path}: segments overlap, and a pixel has one class", "export them without overlap") from None


def fill_up(mask: Volume, image: Grid) -> Volume:
    """A mask on the same grid as its image, with background where it has no frames; as it is where it lies elsewhere."""
    if mask.grid.affine is None or image.affine is None or mask.grid.shape == image.shape:
        return mask
    start = np.linalg.solve(np.array(image.affine), np.array(mask.grid.affine))[:3, 3]
    first = np.rint(start).astype(int)
    last = first + mask.grid.shape
    if np.abs(start - first).max() > 0.1 or (first < 0).any() or (last > image.shape).any():
        return mask
    voxels = np.zeros(image.shape, dtype=mask.voxels.dtype)
    voxels[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = mask.voxels
    affine = np.array(mask.grid.affine)
    affine[:3, 3] -= affine[:3, :3] @ first
    return Volume(voxels, Grid(image.shape, as_affine(affine), mask.grid.spacing, image.stored))


def write_seg(path: Path, label: np.ndarray, frames: DicomFrames, classes: Sequence[str], source: str) -> None:
    """Write (D, H, W) class indices as DICOM-SEG of a series, a segment for each class above background, whole or not at all.

    DataError where the series lacks what such a file must name. ``source``, its SHA-256, makes the UIDs, so that the same masks of the
    same series are the same objects.
    """
    highdicom = need_library("highdicom", path)
    with quiet_pydicom(frames.path) as pydicom:
        images = [pydicom.dcmread(file) for file in frames.files]
        content = hashlib.sha256(label.tobytes()).hexdigest()
        series, instance = (pydicom.uid.generate_uid(entropy_srcs=[source, kind, *classes, content]) for kind in ("series", "instance"))
    segments = [describe_segment(highdicom, number, name) for number, name in enumerate(classes[1:], start=1)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=np.ascontiguousarray(label),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=series,
                series_number=1000,
                sop_instance_uid=instance,
                instance_number=1,
                manufacturer=MAKER,
                manufacturer_model_name=MAKER,
                software_versions=MAKER,
                device_serial_number="0",
            )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise DataError(f"{frames.path}: no DICOM-SEG can be written of it ({reason:.160})", "take the masks in NIfTI") from None
    with whole_file(path, sync=False) as part:
        made.save_as(part)


def describe_segment(highdicom: ModuleType, number: int, name: str) -> Any:
    """A class as a segment: tissue, of a type by the name of the class."""
    tissue = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    own = highdicom.sr.CodedConcept(f"class{number}", SCHEME, name[:64])
    how = highdicom.AlgorithmIdentificationSequence(
        name=MAKER, version="1", family=highdicom.sr.CodedConcept("123109", "DCM", "Artificial Intelligence")
    )
    automatic = highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    return highdicom.seg.SegmentDescription(number, name[:64], tissue, own, automatic, how)
