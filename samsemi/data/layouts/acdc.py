"""ACDC, cine MRI of the heart, as SSL4MIS has it: slices/patientNNN_frameNN_slice_N.h5 with image and label.

Source: https://github.com/HiLab-git/SSL4MIS, code/dataloaders; Bernard et al., TMI 2018.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.data.files import list_entries, real_path
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given, find_folder
from samsemi.data.pictures import STRETCHED, scale_to_uint8
from samsemi.errors import CheckpointError, DataError, WrongValues
from samsemi.hdf5 import named_damage, open_hdf5, read_whole

NAME = re.compile(r"(patient\d+)_(frame\d+)_slice_(\d+)\.h5", re.IGNORECASE)
CLASSES = ("RV", "Myo", "LV")
DAMAGED = "replace or remove the file"


@dataclass(frozen=True)
class AcdcImage:
    """The image in a file of a slice of ACDC."""

    path: Path
    stays: bool = False

    def read(self) -> np.ndarray:
        values = read_slice(self.path, "image").astype(np.float32)
        if not np.isfinite(values).all():
            raise WrongValues(f"{self.path}: pixels that are no numbers", DAMAGED)
        return scale_to_uint8(values)

    def remarks(self) -> list[str]:
        return [STRETCHED]


@dataclass(frozen=True)
class AcdcMask:
    """Its mask."""

    path: Path

    def read(self) -> np.ndarray:
        return read_slice(self.path, "label")

    def remarks(self) -> list[str]:
        return []


def read_slice(path: Path, name: str) -> np.ndarray:
    """(H, W) numbers of a dataset in a file; DataError where there are none."""
    try:
        with open_hdf5(path, DAMAGED) as file, named_damage(path, DAMAGED):
            values = read_whole(file[name]) if name in file else None
    except CheckpointError as error:
        raise DataError(error.message, error.hint) from None
    if values is None or values.ndim != 2 or values.dtype.kind not in "uif" or not values.size:
        raise DataError(f"{path}: no {name} of rows and columns of numbers", DAMAGED)
    return values


def lacks_acdc(given: Given) -> str:
    """Whether there is a file named like a slice."""
    return given.lacks_whole() or ("" if slice_files(given.folder) else "no slices/patientNNN_frameNN_slice_N.h5")


def slice_files(folder: Path) -> list[tuple[Path, re.Match]]:
    """The files of slices in a folder, or in its folder slices, with the parts of their names."""
    place = find_folder(folder, "slices") or folder
    return [(path, found) for path in list_entries(place) if (found := NAME.fullmatch(path.name))]


def find_acdc(given: Given) -> Found:
    """A case for each slice; the group is the patient, the volume the frame."""
    cases = [
        FoundCase(
            path.stem,
            AcdcImage(real_path(path)),
            AcdcMask(path),
            group=found[1],
            volume=f"{found[1]}_{found[2]}",
            slice=int(found[3]),
        )
        for path, found in sorted(slice_files(given.folder), key=lambda pair: (pair[1][1], pair[1][2], int(pair[1][3])))
    ]
    patients, volumes = len({case.group for case in cases}), len({case.volume for case in cases})
    return Found(cases, f"{len(cases)} slices of {volumes} volumes of {patients} patients, all with a mask", CLASSES)
