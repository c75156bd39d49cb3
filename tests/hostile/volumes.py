"""Volumes that are none, or too much."""

import gzip
import io
import pickle
import struct
import zipfile

import h5py
import numpy as np
from hostile.case import data


def nifti(shape: tuple[int, ...], content: bytes = b"", offset: float = 352) -> bytes:
    """A packed file whose header says that it holds 16-bit voxels of this shape."""
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 3, 1, 1, 1, 1)
    struct.pack_into("<fff", header, 108, offset, 1, 0)
    struct.pack_into("<hh", header, 252, 1, 0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(4) + content)


def dicom(rows: int = 48, frames: int = 1, pixels: bytes = b"") -> bytes:
    """An image in explicit little endian, as few elements as can be."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += (b"\0" if kind == b"UI" else b" ") * (len(value) % 2)
        length = struct.pack("<HI", 0, len(value)) if kind in (b"OB", b"OW") else struct.pack("<H", len(value))
        return struct.pack("<HH", group, number) + kind + length + value

    number = struct.Struct("<H").pack
    meta = element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.2") + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    body = element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.2") + element(0x28, 2, b"US", number(1))
    body += element(0x28, 4, b"CS", b"MONOCHROME2") + element(0x28, 8, b"IS", str(frames).encode())
    body += element(0x28, 0x10, b"US", number(rows)) + element(0x28, 0x11, b"US", number(rows)) + element(0x28, 0x100, b"US", number(8))
    body += element(0x28, 0x101, b"US", number(8)) + element(0x28, 0x102, b"US", number(7)) + element(0x28, 0x103, b"US", number(0))
    group = element(2, 0, b"UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + group + meta + body + (element(0x7FE0, 0x10, b"OB", pixels) if pixels else b"")


class Payload:
    """What must not run."""

    def __reduce__(self):
        return open, ("pwned", "w")


def packed_array() -> bytes:
    """An .npz file that would fill 500 MB of a kilobyte."""
    file, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 500)})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(1000))
    return file.getvalue()


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[Payload()]], dtype=object), allow_pickle=True)
    return file.getvalue()


def leading_out() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made["image"] = h5py.ExternalLink("/etc/hostname", "x")
    return file.getvalue()


ONE = {
    "NIfTI of 30,000 x 30,000 x 30,000": ("x.nii.gz", data(nifti((30_000, 30_000, 30_000))), "x.nii.gz"),
    "NIfTI that promises more than it holds": ("x.nii.gz", data(nifti((300, 300, 300))), "damaged"),
    "NIfTI whose voxels begin at 4 GB": ("x.nii.gz", data(nifti((4, 4, 4), offset=4e9)), "begin at byte"),
    "NIfTI of negative sides": ("x.nii.gz", data(nifti((-4, 4, 4))), "x.nii.gz"),
    "NIfTI of several times": ("x.nii.gz", data(nifti((2, 2, 2, 2), bytes(32))), "more than one volume"),
    "NIfTI cut in half": ("x.nii.gz", data(nifti((4, 4, 4), bytes(128))[:60]), "damaged"),
    "DICOM without pixels": ("x.dcm", data(dicom()), "without pixels"),
    "DICOM of 9,999 frames of 65,535 x 65,535": ("x.dcm", data(dicom(65_535, 9_999, bytes(48))), "x.dcm"),
    "DICOM of a billion frames": ("x.dcm", data(dicom(1, 10**9, bytes(48))), "frames"),
    "DICOM cut in its pixels": ("x.dcm", data(dicom(48, 1, bytes(2304))[:-100]), "damaged"),
    "array of Python objects": ("x.npy", data(objects()), "Python objects"),
    "pickle named .npy": ("x.npy", data(pickle.dumps(Payload())), "damaged"),
    "array that unpacks to 500 MB": ("x.npz", data(packed_array()), "damaged"),
    "HDF5 that leads out": ("x.h5", data(leading_out()), "link"),
}
"""Name -> the file, how it is written, and what must be said of it."""
