"""DICOM: which frames belong together as one volume, in the order of its slices."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from samsemi.data.volumes.dicom_headers import Frame
from samsemi.data.volumes.dicom_pixels import read_pixels
from samsemi.data.volumes.volume import Grid, Volume, as_affine, need_numbers, need_room, spacing_of
from samsemi.errors import DataError

log = logging.getLogger("samsemi")

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's patient (left, back, head) to NIfTI's (right, front, head)."""
UNEVEN = 0.05
"""Share by which distances between slices may differ from their median."""


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
        log.warning(
            "%s: distances of %.3g to %.3g mm between slices: are some missing? they are taken as even: distances in mm are off",
            where,
            gaps.min(),
            gaps.max(),
        )
    return ordered
