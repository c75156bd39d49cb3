"""The headers of DICOM files: what each frame is, where it lies and how it is shown."""

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samsemi.data.volumes.volume import MOST_BYTES, named_damage, need_library, need_room
from samsemi.errors import DataError
from samsemi.inputs import need_regular

MAGIC = b"DICM"
"""Stands at byte 128."""
TAGS = (
    *("PatientID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "SOPClassUID", "Modality", "Rows", "Columns"),
    *("NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""Of a header, all that is looked at before the pixels are."""
FIRST_ELEMENT = 144
"""Bytes before that whose distance from the data set the group length is."""
INFLATED = 2**20
"""Bytes at a time."""
MOST_FRAMES = 10_000
"""In a file."""
FARTHEST = 1e5
"""In mm, from the origin; also the longest side of a pixel."""


@dataclass(frozen=True)
class Frame:
    """The header of one frame of one file."""

    path: Path
    index: int
    """Of the frame in its file."""
    patient: str
    series: str
    series_number: str
    order: int
    """InstanceNumber, or the index."""
    shape: tuple[int, int]
    """Rows, columns."""
    spacing: tuple[float, float] | None
    """Between rows and between columns, in mm."""
    position: tuple[float, ...] | None
    """x y z of the first pixel, in DICOM's patient coordinates."""
    orientation: tuple[float, ...] | None
    """Directions of a row and of a column."""
    window: tuple[float, float] | None
    inverted: bool

    @property
    def is_placed(self) -> bool:
        """Whether it is known where it lies in the patient."""
        return None not in (self.position, self.orientation, self.spacing)

    @property
    def height(self) -> float:
        """Along the normal of its plane, in mm."""
        across = np.cross(self.orientation[:3], self.orientation[3:])  # type: ignore[index]
        return float(np.dot(across, self.position))  # type: ignore[arg-type]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its bytes, whatever its name."""
    try:
        need_regular(path)
        with open(path, "rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


@contextmanager
def quiet_pydicom(path: Path) -> Iterator[Any]:
    """pydicom without its remarks, and with its errors named."""
    pydicom = need_library("pydicom", path)
    with warnings.catch_warnings(), named_damage(path, "DICOM"):
        warnings.simplefilter("ignore")
        try:
            need_inflated_room(path, pydicom)
            yield pydicom
        except (pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
            raise ValueError(str(error)) from None


def need_inflated_room(path: Path, pydicom: Any) -> None:
    """DataError for a deflated file, which pydicom inflates whole, that would fill the memory."""
    if not path.is_file():  # a folder of a series
        return
    about = pydicom.filereader.read_file_meta_info(path)
    if about.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(FIRST_ELEMENT + int(about.FileMetaInformationGroupLength))
        while data := inflater.unconsumed_tail or file.read(INFLATED):
            size += len(inflater.decompress(data, INFLATED))
            if size > MOST_BYTES:
                raise DataError(f"{path}: inflated, it is more than {MOST_BYTES >> 30} GiB", "write it uncompressed, if it is a scan")


def read_frames(path: Path) -> list[Frame]:
    """The frames of a DICOM file from its header; none of one that is no image: reports, plans, directories."""
    with quiet_pydicom(path) as pydicom:
        need_regular(path)
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        if "Rows" not in header and (kind is None or "Image Storage" in kind.name):
            raise EOFError("an image without its size")
        if "Rows" not in header or header.get("Modality") == "SEG":
            return []
        count = int(header.get("NumberOfFrames") or 1)
        rows, columns = int(header.Rows), int(header.Columns)
        samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.get("BitsAllocated") or 8)
        if not 0 < count <= MOST_FRAMES:
            raise DataError(
                f"{path}: {count} frames; {MOST_FRAMES} can be read", "a whole-slide image? write the tiles that count as pictures"
            )
        need_room((count, rows, columns, samples), max(1, bits // 8), path)
        return [make_frame(path, header, index, (rows, columns)) for index in range(count)]


def make_frame(path: Path, header: Any, index: int, shape: tuple[int, int]) -> Frame:
    """What the header says of one of its frames."""
    value = partial(frame_value, header, index)
    spacing = value("PixelMeasuresSequence", "PixelSpacing") or header.get("ImagerPixelSpacing")
    return Frame(
        path,
        index,
        patient=str(header.get("PatientID") or ""),
        series=str(header.get("SeriesInstanceUID") or path),
        series_number=str(header.get("SeriesNumber") or ""),
        order=int(header.get("InstanceNumber") or 0) if index == 0 else index,
        shape=shape,
        spacing=as_lengths(spacing),
        position=as_numbers(value("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=as_directions(value("PlaneOrientationSequence", "ImageOrientationPatient")),
        window=window_of(value),
        inverted=header.get("PhotometricInterpretation") == "MONOCHROME1",
    )


def frame_value(header: Any, index: int, sequence: str, name: str) -> Any:
    """An attribute of a frame: of its own, of the shared functional groups, or of the file; None where there is none."""
    own, shared = header.get("PerFrameFunctionalGroupsSequence") or [], header.get("SharedFunctionalGroupsSequence") or []
    for group in (*own[index : index + 1], *shared[:1]):
        for item in (group.get(sequence) or [])[:1]:
            if name in item:
                return item[name].value
    return header.get(name)


def window_of(value: Callable[[str, str], Any]) -> tuple[float, float] | None:
    """The first window of a frame: the values shown black and white. Source: DICOM PS3.3, C.11.2.1.2."""
    centers, widths = (as_list(value("FrameVOILUTSequence", name)) for name in ("WindowCenter", "WindowWidth"))
    shape = value("FrameVOILUTSequence", "VOILUTFunction") or "LINEAR"
    if not len(centers) or not len(widths) or not float(widths[0]) > 1 or shape == "SIGMOID":
        return None
    center, width = float(centers[0]), float(widths[0])
    if shape == "LINEAR_EXACT":
        return center - width / 2, center + width / 2
    return center - width / 2, center + width / 2 - 1


def as_list(values: Any) -> list[Any]:
    """The values of an attribute of one or several; a single one may be 0."""
    return [] if values is None else [*np.atleast_1d(values)]


def as_numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """So many numbers of a place or direction, or None."""
    numbers = tuple(float(value) for value in values) if values is not None and not isinstance(values, str) else ()
    return numbers if len(numbers) == count and (np.abs(numbers) <= FARTHEST).all() else None


def as_directions(values: Any) -> tuple[float, ...] | None:
    """Two unit vectors at right angles, or None."""
    found = as_numbers(values, 6)
    return found if found and abs(np.linalg.norm(np.cross(found[:3], found[3:])) - 1) < 0.01 else None


def as_lengths(values: Any) -> tuple[float, float] | None:
    """Two lengths above 0, or None."""
    found = as_numbers(values, 2)
    return found if found and min(found) > 0 else None  # type: ignore[return-value]
