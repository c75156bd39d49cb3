"""DICOM files: which frames belong together as one volume, and their pixels."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from samsemi.data.volumes.lossless_jpeg import decode_lossless
from samsemi.data.volumes.volume import Grid, Volume, as_affine, named_damage, need_library, need_numbers, need_room, spacing_of
from samsemi.errors import DataError, TruncatedFile
from samsemi.inputs import need_regular

log = logging.getLogger("samsemi")

MAGIC = b"DICM"
"""Stands at byte 128."""
TAGS = (
    *("PatientID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "SOPClassUID", "Modality", "Rows", "Columns"),
    *("NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""Of a header, all that is looked at before the pixels are."""
DECODERS = ("pydicom", "pyjpegls", "pillow")
"""Of pydicom, the first that knows a compression is taken; not gdcm, which damaged files can crash."""
LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""Transfer syntaxes."""
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's patient (left, back, head) to NIfTI's (right, front, head)."""
MOST_FRAMES = 10_000
"""In a file."""
FARTHEST = 1e5
"""In mm, from the origin; also the longest side of a pixel."""
UNEVEN = 0.05
"""Share by which distances between slices may differ from their median."""


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


@dataclass(frozen=True, eq=False)
class DicomFrames:
    """Frames that are one volume, or one image, in the order of its slices."""

    frames: tuple[Frame, ...]

    @property
    def path(self) -> Path:
        """The file, or the folder of a series of files."""
        first = self.frames[0].path
        return first if all(frame.path == first for frame in self.frames) else first.parent

    @property
    def patient(self) -> str:
        return self.frames[0].patient

    @property
    def is_volume(self) -> bool:
        return len(self.frames) > 1

    @property
    def files(self) -> tuple[Path, ...]:
        """Each file once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    def grid(self) -> Grid:
        """How the slices lie, by their headers."""
        shape = (len(self.frames), *self.frames[0].shape)
        if not all(frame.is_placed for frame in self.frames):
            return Grid(shape, spacing=self.frames[0].spacing)
        affine = place_frames(self.frames)
        return Grid(shape, as_affine(affine), spacing_of(affine))

    def read(self) -> Volume:
        """All voxels, as their modality lookup says; DataError for a file without pixels, or one that cannot be decoded."""
        grid, first = self.grid(), self.frames[0]
        need_room((len(self.frames), *first.shape), 4, self.path)
        pixels = {path: read_pixels(path) for path in self.files}
        slices = [pixels[frame.path][frame.index] for frame in self.frames]
        if len({part.shape for part in slices}) > 1:
            raise DataError(
                f"{self.path}: gray and color, or sizes, differ between the files of one series", "write them as separate series"
            )
        windows = {frame.window for frame in self.frames}
        voxels = need_numbers(np.stack(slices), self.path)
        return Volume(voxels, grid, windows.pop() if len(windows) == 1 else None, first.inverted)


def place_frames(frames: Sequence[Frame]) -> np.ndarray:
    """4 x 4 of frames in order: index (z, y, x, 1) -> mm (RAS+); a single frame is as thick as its pixels are long."""
    first, last = frames[0], frames[-1]
    across, down = np.array(first.orientation[:3]), np.array(first.orientation[3:])  # type: ignore[index]
    between_rows, between_columns = first.spacing  # type: ignore[misc]
    step = np.cross(across, down) * between_rows
    if len(frames) > 1:
        step = (np.array(last.position) - np.array(first.position)) / (len(frames) - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, down * between_rows, across * between_columns
    affine[:3, 3] = first.position  # type: ignore[assignment]
    return TO_RAS @ affine


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
        yield pydicom


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
    centers, widths = (np.atleast_1d(value("FrameVOILUTSequence", name) or []) for name in ("WindowCenter", "WindowWidth"))
    shape = value("FrameVOILUTSequence", "VOILUTFunction") or "LINEAR"
    if not len(centers) or not len(widths) or not float(widths[0]) > 1 or shape == "SIGMOID":
        return None
    center, width = float(centers[0]), float(widths[0])
    if shape == "LINEAR_EXACT":
        return center - width / 2, center + width / 2
    return center - width / 2, center + width / 2 - 1


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


def group_frames(frames: Sequence[Frame]) -> list[DicomFrames]:
    """Frames of any files -> volumes and images: those of one series, direction and size are a volume where all say how they lie, and so
    are the frames of one file; others are images of their own."""
    series: dict[object, list[Frame]] = {}
    for frame in frames:
        plane = (frame.series, tuple(np.round(frame.orientation or (), 2)), frame.shape)
        series.setdefault(plane if frame.is_placed else frame.path, []).append(frame)
    return [DicomFrames(tuple(order_frames(part))) for part in series.values()]


def order_frames(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of one series along the normal of their planes; DataError where several lie at one place or are of several patients."""
    if len(frames) == 1 or not frames[0].is_placed:
        return sorted(frames, key=lambda frame: frame.index)
    where = frames[0].path.parent
    if len({frame.patient for frame in frames}) > 1:
        raise DataError(f"{where}: one series holds slices of several patients", "put each patient's files into a folder of its own")
    ordered = sorted(frames, key=lambda frame: (frame.height, frame.order))
    gaps = np.diff([frame.height for frame in ordered])
    if gaps.min() < 1e-3:
        one, other = ordered[int(gaps.argmin())], ordered[int(gaps.argmin()) + 1]
        raise DataError(
            f"{where}: {one.path.name} and {other.path.name} lie at the same place: several phases or copies in one series",
            "export each phase as a series of its own, or remove the copies",
        )
    if np.abs(gaps - median(gaps)).max() > UNEVEN * median(gaps):
        log.warning("%s: distances of %.3g to %.3g mm between slices: are some missing?", where, gaps.min(), gaps.max())
    return ordered


def read_pixels(path: Path) -> np.ndarray:
    """(frames, H, W) numbers, modality lookup applied, or (frames, H, W, 3) uint8 of a DICOM file; DataError where it has none."""
    with quiet_pydicom(path) as pydicom:
        dataset = pydicom.dcmread(path)
        if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise DataError(f"{path}: DICOM without pixels", "export the images themselves, or remove the file")
        refuse_undecodable(dataset, path, pydicom)
        pixels = decode(dataset, path, pydicom)
        frames = int(dataset.get("NumberOfFrames") or 1)
        pixels = pixels if frames > 1 else pixels[None]
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            pixels = pydicom.pixels.apply_color_lut(pixels, dataset)
        if pixels.ndim == 4:
            return pixels if pixels.dtype == np.uint8 else (pixels >> (8 * pixels.dtype.itemsize - 8)).astype(np.uint8)
        if "ModalityLUTSequence" in dataset:
            return np.asarray(pydicom.pixels.apply_modality_lut(pixels, dataset), dtype=np.float32)
        return np.stack([rescale(pixels[index], dataset, index) for index in range(frames)])


def rescale(values: np.ndarray, dataset: Any, index: int) -> np.ndarray:
    """Stored values of a frame -> what they mean, such as Hounsfield units; whole numbers stay whole where they can."""
    slope, intercept = (frame_value(dataset, index, "PixelValueTransformationSequence", f"Rescale{n}") for n in ("Slope", "Intercept"))
    slope, intercept = float(1 if slope is None else slope), float(intercept or 0)
    if slope == 1 and intercept == 0:
        return values
    if slope == 1 and intercept.is_integer() and values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return values.astype(np.int32) + np.int32(intercept)
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def refuse_undecodable(dataset: Any, path: Path, pydicom: Any) -> None:
    """DataError, by its name, for a compression of which there is no decoder that damaged files cannot crash."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax in LOSSLESS_JPEG:
        return
    deep = syntax == pydicom.uid.JPEGExtended12Bit and int(dataset.BitsStored) > 8
    if deep or not decoders_of(syntax, pydicom):
        raise DataError(
            f"{path}: compressed as {syntax.name}, which is not read",
            "write it uncompressed, such as with `dcmdjpeg IN OUT` of dcmtk, or with gdcmconv",
        )


def decoders_of(syntax: Any, pydicom: Any) -> list[str]:
    """Those of DECODERS that are installed and know a transfer syntax."""
    try:
        return [name for name in DECODERS if name in pydicom.pixels.get_decoder(syntax).available_plugins]
    except NotImplementedError:
        return []


def decode(dataset: Any, path: Path, pydicom: Any) -> np.ndarray:
    """The stored values of all frames, colors as RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax in LOSSLESS_JPEG:
            return decode_lossless_frames(dataset, pydicom)
        plugin = decoders_of(syntax, pydicom)[0] if syntax.is_encapsulated else ""
        return pydicom.pixels.pixel_array(dataset, decoding_plugin=plugin)
    except Exception as error:  # each decoder has errors of its own
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise TruncatedFile(f"{path}: damaged pixels ({reason:.200})", "copy or export it again, uncompressed if possible") from None


def decode_lossless_frames(dataset: Any, pydicom: Any) -> np.ndarray:
    """The stored values of the frames of a file in lossless JPEG."""
    colors = (3,) if int(dataset.SamplesPerPixel) == 3 else ()
    count, shape = int(dataset.get("NumberOfFrames") or 1), (int(dataset.Rows), int(dataset.Columns), *colors)
    streams = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count)
    values = np.stack([decode_lossless(stream, shape) for stream in streams])
    if len(values) < count:
        raise ValueError(f"{len(values)} of {count} frames are there")
    if int(dataset.PixelRepresentation):
        unused = 16 - int(dataset.BitsStored)
        values = (values << unused).view(np.int16) >> unused
    elif int(dataset.BitsAllocated) == 8:
        values = values.astype(np.uint8)
    if colors and dataset.PhotometricInterpretation != "RGB":
        values = pydicom.pixels.convert_color_space(values, dataset.PhotometricInterpretation, "RGB")
    return values if count > 1 else values[0]
