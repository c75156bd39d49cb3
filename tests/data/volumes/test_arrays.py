"""Arrays in .npy, .npz and HDF5 files, and pages of TIFF files."""

import io
import struct
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from reading import assert_named

from samsemi.data.volumes.arrays import LABELS, ArrayFile
from samsemi.data.volumes.find import open_volume
from samsemi.data.volumes.pages import PagesFile, is_stack
from samsemi.errors import DataError, TruncatedFile, WrongValues

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 9, 7)).astype(np.int16)


def test_numpy_volume_and_its_mask(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(VOXELS))
    np.savez_compressed(tmp_path / "b.npz", image=VOXELS, label=VOXELS > 0)
    for name in ("a.npy", "b.npz"):
        assert open_volume(tmp_path / name).grid().shape == VOXELS.shape
        assert (open_volume(tmp_path / name).read().voxels == VOXELS).all()
    assert (open_volume(tmp_path / "b.npz", of_mask=True).read().voxels == (VOXELS > 0)).all()


def test_images_of_one_slice_are_no_volumes(tmp_path):
    np.save(tmp_path / "gray.npy", VOXELS[0])
    colors = np.zeros((9, 7, 4), np.uint8)
    colors[..., 1] = 200
    np.save(tmp_path / "colors.npy", colors)
    assert not open_volume(tmp_path / "gray.npy").is_volume
    assert open_volume(tmp_path / "colors.npy").read().voxels.shape == (1, 9, 7, 3)


def test_hdf5_volume_and_its_mask(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=VOXELS, compression="gzip")
        file["label"] = (VOXELS > 0).astype(np.uint8)
        file["scribble"] = np.zeros((2, 2))
    assert (open_volume(tmp_path / "a.h5").read().voxels == VOXELS).all()
    assert (ArrayFile(tmp_path / "a.h5", LABELS).read().voxels == (VOXELS > 0)).all()


def test_which_array_is_asked_for_where_none_can_be_told(tmp_path):
    np.savez(tmp_path / "a.npz", left=VOXELS, right=VOXELS)
    with pytest.raises(DataError, match="which array\\? it holds left, right") as caught:
        open_volume(tmp_path / "a.npz").grid()
    assert "'image'" in caught.value.hint


def bad_array(kind: str) -> tuple[str, bytes]:
    """Name and bytes of a file that cannot be read."""
    file = io.BytesIO()
    if kind == "external":
        with h5py.File(file, "w") as made:
            made["image"] = h5py.ExternalLink("/etc/passwd", "x")
        return "a.h5", file.getvalue()
    if kind in ("bomb", "zip"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 500)})
            archive.writestr("image.npy", header.getvalue() + bytes(1000))
        return "a.npz", file.getvalue() if kind == "bomb" else b"PK" + bytes(100)
    values = {
        "objects": np.array([[1, None]], dtype=object),
        "NaN": np.array([[1.0, np.nan]]),
        "four axes": np.zeros((2, 2, 2, 2)),
        "deep colors": np.zeros((4, 4, 3), np.uint16),
    }.get(kind, VOXELS)
    np.save(file, values, allow_pickle=True)
    data = file.getvalue()
    return "a.npy", data[:-40] if kind == "cut" else b"no array" if kind == "text" else data


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("objects", WrongValues, "Python objects"),
        ("NaN", WrongValues, "1 of 2 voxels are no numbers"),
        ("four axes", DataError, "an array of 2 x 2 x 2 x 2"),
        ("deep colors", WrongValues, "colors of type uint16"),
        ("cut", TruncatedFile, "damaged"),
        ("text", TruncatedFile, "damaged array"),
        ("zip", TruncatedFile, "damaged array"),
        ("bomb", TruncatedFile, "its header says 500000000 bytes"),
        ("external", DataError, "is a link"),
    ],
)
def test_bad_array_is_named_without_filling_memory(tmp_path, kind, error, said):
    name, data = bad_array(kind)
    (tmp_path / name).write_bytes(data)
    assert_named(lambda: open_volume(tmp_path / name).read(), tmp_path / name, error, said)


def save_pages(path, pages, **options) -> None:
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others, **options)


def test_pages_are_slices_with_the_spacing_that_imagej_wrote(tmp_path):
    tags = ImageFileDirectory_v2()
    tags[270] = "ImageJ=1.53t\nimages=5\nslices=5\nunit=micron\nspacing=2000\n"
    tags[282] = tags[283] = 1 / 500
    save_pages(tmp_path / "a.tif", VOXELS.astype(np.uint16), tiffinfo=tags)
    source = open_volume(tmp_path / "a.tif")
    assert isinstance(source, PagesFile)
    assert source.grid().shape == VOXELS.shape
    assert source.grid().spacing == pytest.approx((2, 0.5, 0.5), rel=1e-3)
    assert (source.read().voxels == VOXELS.astype(np.uint16)).all()


def test_pages_of_a_palette_are_its_colors_in_images_and_its_indices_in_masks(tmp_path):
    indices = [Image.fromarray((page > 0).astype(np.uint8) * (number + 1)) for number, page in enumerate(VOXELS)]
    for picture in indices:
        picture.putpalette([part for level in range(256) for part in [255 - level] * 3])
    indices[0].save(tmp_path / "gray.tif", save_all=True, append_images=indices[1:])
    stored = np.stack([np.array(picture) for picture in indices])
    assert (open_volume(tmp_path / "gray.tif", of_mask=True).read().voxels == stored).all()
    assert (open_volume(tmp_path / "gray.tif").read().voxels == 255 - stored).all()
    for picture in indices:
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indices[0].save(tmp_path / "color.tif", save_all=True, append_images=indices[1:])
    with pytest.raises(DataError, match="pages in color"):
        open_volume(tmp_path / "color.tif").read()


@pytest.mark.parametrize(("kind", "bits", "sample_format"), [("uint32", 32, 1), ("int8", 8, 2)])
def test_numbers_in_pages_are_what_they_are_or_refused(tmp_path, kind, bits, sample_format):
    values = np.arange(5 * 6).reshape(5, 2, 3).astype(kind) * (2**27 if kind == "uint32" else -1)
    data, place = bytearray(b"II*\0" + bytes(4)), 4
    for page in values:
        start = len(data)
        data += page.tobytes() + b"\0" * (page.nbytes % 2)
        data[place : place + 4] = struct.pack("<I", len(data))
        tags = {256: 3, 257: 2, 258: bits, 259: 1, 262: 1, 273: start, 277: 1, 278: 2, 279: page.nbytes, 339: sample_format}
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        place = len(data)
        data += bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    if kind == "int8":
        with pytest.raises(DataError, match="signed numbers of 8 bits"):
            open_volume(tmp_path / "a.tif").read()
    else:
        assert (open_volume(tmp_path / "a.tif").read().voxels == values).all()


def test_single_pages_and_channels_are_pictures(tmp_path):
    save_pages(tmp_path / "one.tif", VOXELS[:1].astype(np.uint8))
    save_pages(tmp_path / "channels.tif", VOXELS[:3].astype(np.uint8))
    (tmp_path / "no.tif").write_bytes(b"II*\0")
    assert not any(map(is_stack, tmp_path.iterdir()))


def test_bad_pages_are_named(tmp_path):
    save_pages(tmp_path / "sizes.tif", [VOXELS[0].astype(np.uint8), np.zeros((3, 3), np.uint8)])
    with pytest.raises(DataError, match="several sizes"):
        open_volume(tmp_path / "sizes.tif").read()
    save_pages(tmp_path / "cut.tif", VOXELS.astype(np.uint8))
    data = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) - 200])
    with pytest.raises(TruncatedFile, match="damaged TIFF"):
        PagesFile(tmp_path / "cut.tif").read()
