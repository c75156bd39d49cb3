"""Bytes that turn in a file of any format: other voxels, or an error that names the file."""

import io
from collections.abc import Callable
from contextlib import suppress

import h5py
import numpy as np
import pytest
from medical import draw_phantom, make_slice, nibabel, pydicom, tilted_affine

from samsemi.data.volumes.find import open_volume
from samsemi.errors import DataError

VOXELS = draw_phantom(0, (3, 12, 10))[0]
GRADIENT = np.arange(64, dtype=np.uint8).reshape(8, 8)


def bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def in_hdf5(file: io.BytesIO) -> None:
    with h5py.File(file, "w") as made:
        made.create_dataset("image", data=VOXELS, compression="gzip")


def in_dicom(file: io.BytesIO, compression: str | None = None) -> None:
    place = {"PixelSpacing": [1, 1], "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    dataset = make_slice(GRADIENT, WindowCenter=[1, 2], WindowWidth=[3, 4], RescaleSlope=1, RescaleIntercept=2, **place)
    if compression:
        dataset.compress(compression, encoding_plugin="pydicom" if compression == pydicom.uid.RLELossless else "pyjpegls")
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)


FORMATS = {
    ".nii": lambda: nibabel.Nifti1Image(VOXELS.T, tilted_affine()).to_bytes(),
    ".npy": lambda: bytes_of(lambda file: np.save(file, VOXELS)),
    ".npz": lambda: bytes_of(lambda file: np.savez_compressed(file, image=VOXELS)),
    ".h5": lambda: bytes_of(in_hdf5),
    ".dcm": lambda: bytes_of(in_dicom),
    ".rle.dcm": lambda: bytes_of(lambda file: in_dicom(file, pydicom.uid.RLELossless)),
    ".jls.dcm": lambda: bytes_of(lambda file: in_dicom(file, pydicom.uid.JPEGLSLossless)),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_changed_bytes_are_an_error_or_other_voxels(tmp_path, suffix):
    rng, data, path = np.random.default_rng(0), FORMATS[suffix](), tmp_path / f"a{suffix}"
    start = 132 if suffix.endswith("dcm") else 0
    for number in range(80):
        damaged = bytearray(data)
        for place in rng.integers(start, len(data), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged[: rng.integers(start, len(data)) if number % 5 == 0 else len(data)]))
        with suppress(DataError):
            source = open_volume(path)
            assert source is None or source.read().voxels.size
