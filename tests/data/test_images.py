import errno
import io
import os
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from samsemi.data import images
from samsemi.data.files import count_unread, find_images, warn_unread
from samsemi.data.images import read_image, read_label
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.pairs import find_pairs
from samsemi.data.mask_values import count_values
from samsemi.data.pictures import FROM_ALPHA, WHITE_FIRST, remark_image, scale_to_uint8, write_picture
from samsemi.data.sources import MaskFile
from samsemi.data.volumes.find import find_volumes
from samsemi.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, size=(12, 17, 3), dtype=np.uint8)
GREY = RGB[..., 0]
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 240, 20)[:, None], np.arange(0, 255, 15)[None], 100), axis=-1).astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "how"),
    [("a.png", {}), ("a.tif", {}), ("b.tiff", {"compression": "tiff_lzw"}), ("c.tif", {"compression": "tiff_deflate"}), ("a.bmp", {})],
)
def test_lossless_rgb_is_read_as_it_is(tmp_path, name, how):
    Image.fromarray(RGB).save(tmp_path / name, **how)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8 and (image == RGB).all()


def test_jpeg_is_read_with_its_small_errors(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == SMOOTH.shape and np.abs(image.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_8_bit_grey_is_repeated(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name)
    assert (read_image(tmp_path / name) == GREY[..., None]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_from_its_own_range(tmp_path, name):
    values = np.array([[1000, 1100, 1200], [1300, 1400, 2000]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    expected = np.rint((values.astype(float) - 1000) * 0.255)
    assert (read_image(tmp_path / name) == expected[..., None]).all()


def write_tiff(path, values, sample_format: int) -> None:
    """Plain TIFF of one strip, of types that Pillow does not write."""
    (height, width), size, data = values.shape, values.dtype.itemsize, values.tobytes()
    tags = {256: width, 257: height, 258: 8 * size, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4))


def test_tiff_of_unsigned_numbers_of_32_bits_is_read_whole(tmp_path):
    """Pillow has no mode for them: what is above 2^31 comes out negative."""
    values = np.array([[0, 2**31], [2**32 - 1, 2**30]], dtype=np.uint32)
    write_tiff(tmp_path / "u.tif", values, 1)
    assert read_image(tmp_path / "u.tif")[..., 0].tolist() == [[0, 128], [255, 64]]
    write_tiff(tmp_path / "i.tif", np.array([[-2, 0], [2, 1]], dtype=np.int32), 2)
    assert read_image(tmp_path / "i.tif")[..., 0].tolist() == [[0, 128], [255, 191]]


@pytest.mark.parametrize(("kind", "sample_format"), [("int8", 2), ("float16", 3), ("float64", 3)])
def test_tiff_of_numbers_that_pillow_does_not_know_says_which_it_does(tmp_path, kind, sample_format):
    write_tiff(tmp_path / "x.tif", np.ones((3, 4), dtype=kind), sample_format)
    for read in (read_image, read_label):
        with pytest.raises(DataError, match="x.tif") as caught:
            read(tmp_path / "x.tif")
        assert "floats of 32 bits" in caught.value.hint


def test_float_and_constant_greys_are_scaled(tmp_path):
    Image.fromarray(np.array([[-1.0, 0.0], [0.5, 1.0]], dtype=np.float32)).save(tmp_path / "f.tif")
    assert read_image(tmp_path / "f.tif")[..., 0].tolist() == [[0, 128], [191, 255]]
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(tmp_path / "c.png")
    assert not read_image(tmp_path / "c.png").any()


def test_float_image_with_nan_is_refused_or_scaled_by_the_others(tmp_path):
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "f.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert read_image(tmp_path / "f.tif").max() == 255
        except DataError as error:
            assert "f.tif" in error.message


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(np.dstack([RGB, np.full((12, 17), 90, np.uint8)])), RGB),
        (Image.fromarray(np.dstack([GREY, np.full((12, 17), 90, np.uint8)])), np.repeat(GREY[..., None], 3, axis=2)),
        (Image.fromarray(GREY > 128), np.repeat((GREY > 128)[..., None] * np.uint8(255), 3, axis=2)),
    ],
    ids=["RGBA", "LA", "1"],
)
def test_alpha_is_dropped_and_bits_become_black_and_white(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == expected).all()


def test_palette_image_shows_its_colors(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied_to_images_and_masks(tmp_path, orientation, upright):
    """A camera's JPEG and the mask that was drawn on the upright picture must fit."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(GREY).save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright(RGB))
    assert np.array_equal(read_label(tmp_path / "m.png"), upright(GREY))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.filterwarnings("ignore")
def test_truncated_file_is_a_data_error_wherever_it_is_cut(tmp_path, kind):
    data = encoded(Image.fromarray(RGB), kind)
    path = tmp_path / "cut.png"
    for length in range(0, int(0.95 * len(data)), 37):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="cut.png"):
            read_image(path)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_missing_foreign_and_directory_are_data_errors_that_name_the_file(tmp_path, read):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("missing.png", "text.png", "empty.png", "folder.png"):
        with pytest.raises(DataError, match=name) as caught:
            read(tmp_path / name)
        assert caught.value.hint


def test_image_too_large_to_be_meant_is_a_data_error(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(DataError, match="a.png"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    with pytest.raises(DataError, match="a.png"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp"])
def test_grey_mask_is_read_as_its_values(tmp_path, name):
    label = np.array([[0, 1, 2], [3, 254, 255]], dtype=np.uint8)
    Image.fromarray(label).save(tmp_path / name)
    assert np.array_equal(read_label(tmp_path / name), label)


def test_palette_mask_is_read_as_its_indices(tmp_path):
    label = np.array([[0, 1], [2, 5]], dtype=np.uint8)
    picture = Image.fromarray(label)
    picture.putpalette(list(range(90, 108)))
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_label(tmp_path / "m.png"), label)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1"])
def test_grey_mask_in_another_mode_is_read_as_its_grey(tmp_path, mode):
    label = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    Image.fromarray(label).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_label(tmp_path / "m.png"), label)


def test_16_bit_mask_of_class_indices_is_read(tmp_path):
    label = np.array([[0, 3], [255, 1]], dtype=np.uint16)
    Image.fromarray(label).save(tmp_path / "m.png")
    assert np.array_equal(read_label(tmp_path / "m.png"), label) and read_label(tmp_path / "m.png").dtype == np.uint8


def test_colored_mask_and_mask_of_large_values_are_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "color.png")
    Image.fromarray(np.array([[0, 300]], dtype=np.uint16)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="color.png: a color picture"):
        read_label(tmp_path / "color.png")
    with pytest.raises(DataError, match="300"):
        read_label(tmp_path / "large.png")


@pytest.mark.parametrize("value", [0.6, np.nan])
@pytest.mark.filterwarnings("ignore")
def test_mask_with_fractions_or_nan_is_refused(tmp_path, value):
    Image.fromarray(np.array([[0, 1], [1, value]], dtype=np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(DataError, match="m.tif"):
        read_label(tmp_path / "m.tif")


@pytest.mark.parametrize("array", [GREY, RGB], ids=["label", "image"])
def test_written_picture_is_read_back(tmp_path, array):
    path = tmp_path / "new" / "folder" / "a.png"
    write_picture(path, array)
    assert np.array_equal(read_label(path) if array.ndim == 2 else read_image(path), array)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_failed_writing_leaves_the_old_picture_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_picture(path, GREY)

    def fail_halfway(self, file, **how):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        write_picture(path, RGB)
    assert np.array_equal(read_label(path), GREY)
    assert list(find_images(tmp_path)) == ["a"], "what is left of the failed one is not taken for an image"


def test_images_are_found_below_a_folder_by_relative_path_in_order(tmp_path):
    for name in ("b.PNG", "a/c.jpg", "a/b/d.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_images(tmp_path)) == ["a__b__d", "a__c", "b"]


def test_two_images_of_one_id_are_refused(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="same id 'a'"):
        find_images(tmp_path)


def test_missing_and_empty_folders_are_data_errors(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=str(folder)):
            find_images(folder)


def test_file_of_another_suffix_is_read_by_its_bytes(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "odd.name", "PNG")
    assert (read_image(tmp_path / "odd.name") == RGB).all()


def test_hot_pixel_does_not_set_the_range(tmp_path):
    values = np.tile(np.arange(10, dtype=np.uint16), (50, 5))
    values[0, 0] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")[..., 0]
    assert image[0, 0] == 255 and image[1, :10].tolist() == [round(k * 255 / 9) for k in range(10)]
    spot = np.zeros((50, 50), dtype=np.uint16)
    spot[0, 0] = 700
    assert scale_to_uint8(spot.astype(np.float32)).max() == 255, "all that there is to see"


@pytest.mark.parametrize("read", [read_image, read_label])
def test_several_pages_in_a_file_are_refused(tmp_path, read):
    """Also channels first, (3, H, W), which writers store as three pages."""
    pages = [Image.fromarray(GREY)] * 3
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a.tif: 3 pages .*channels"):
        read(tmp_path / "a.tif")


def test_linked_folder_is_not_followed_and_that_is_said(tmp_path, caplog):
    write_picture(tmp_path / "images/a.png", RGB)
    write_picture(tmp_path / "far/b.png", RGB)
    (tmp_path / "images/more").symlink_to(tmp_path / "far", target_is_directory=True)
    assert set(find_images(tmp_path / "images")) == {"a"}
    warn_unread(tmp_path / "images")
    assert "links to folders are not followed, such as" in caplog.text and "images/more" in caplog.text
    caplog.clear()
    find_volumes(tmp_path / "images")
    assert "links to folders are not followed" in caplog.text
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/.git").mkdir()
    (tmp_path / "images/.git/hidden").symlink_to(tmp_path / "far", target_is_directory=True)
    caplog.clear()
    with pytest.raises(DataError, match="no images in it"):
        find_images(tmp_path / "images")
    assert "links to folders are not followed" in caplog.text and "hidden" not in caplog.text


def test_colors_of_8_bits_are_read_wherever_the_directory_of_their_tiff_lies(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, size=(12, 36, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(image), "TIFF", compression="tiff_lzw")
    assert "16" in str(struct.unpack("<I", data[4:8])[0])  # Pillow shows the place of the directory beside the bits of a pixel
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_black_and_white_mask_is_read_as_it_is_shown_whatever_its_colors_are_made_of(tmp_path, mode):
    shape = np.zeros((6, 7), dtype=np.uint8)
    shape[2:4, 1:5] = 255
    Image.fromarray(shape).convert("RGB").convert(mode).save(tmp_path / "m.tif")
    assert np.array_equal(read_label(tmp_path / "m.tif"), shape)


def test_colors_of_16_bits_are_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + np.full((6, 3), 300, dtype=">u2").tobytes() for _ in range(5))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="16 bits per channel"):
        read_image(tmp_path / "a.png")


SHAPE = np.array([[0, 255], [255, 0]], dtype=np.uint8)


def test_palette_of_white_then_black_is_read_by_its_colors(tmp_path, caplog):
    picture = Image.fromarray((SHAPE == 0).astype(np.uint8))
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_label(tmp_path / "m.png"), SHAPE)
    picture.putpalette([255, 255, 255, 200, 0, 0])
    picture.save(tmp_path / "red.png")
    assert np.array_equal(read_label(tmp_path / "red.png"), SHAPE == 0), "red on white: indices"
    caplog.set_level("INFO")
    count_values({name: MaskFile(tmp_path / f"{name}.png") for name in ("m", "red")})
    assert [record.getMessage() for record in caplog.records] == [f"1 masks {WHITE_FIRST}"]


@pytest.mark.parametrize("color", [0, 255])
def test_mask_in_the_alpha_channel_is_read(tmp_path, color):
    Image.fromarray(np.dstack([np.full((2, 2, 3), color, np.uint8), SHAPE])).save(tmp_path / "m.png")
    assert np.array_equal(read_label(tmp_path / "m.png"), SHAPE)
    assert images.remark_label((tmp_path / "m.png").read_bytes(), tmp_path / "m.png") == [FROM_ALPHA]


def test_superpixels_are_left_out_and_other_files_counted(tmp_path, caplog):
    for name in ("a.jpg", "a_superpixels.png", "b_superpixels.png", "c.dcm", "d.DCM", "e.nii.gz", "README", ".hidden"):
        (tmp_path / name).touch()
    assert list(find_images(tmp_path)) == ["a", "b_superpixels"]
    assert "left out: 1 files" in caplog.text
    assert count_unread(tmp_path) == "2 .dcm, 1 .nii.gz, 1 without suffix"
    for name in ("a.jpg", "a_superpixels.png", "b_superpixels.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"not read: 2 \.dcm"):
        find_images(tmp_path)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(%pipe%touch eps_ran) (w) file\n%%EOF\n"


@pytest.mark.parametrize("name", ["x.png", "x.eps"])
def test_picture_of_a_format_that_other_programs_open_is_no_picture(tmp_path, monkeypatch, name):
    """Pillow would start ghostscript for an EPS file, whatever its name."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("ghostscript was started"))
    (tmp_path / name).write_bytes(EPS)
    for read in (read_image, read_label):
        with pytest.raises(DataError, match="not an image that can be read") as caught:
            read(tmp_path / name)
        assert "PNG, JPEG, TIFF, BMP" in caught.value.hint
    assert remark_image(tmp_path / name) == []


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX"])
def test_formats_that_are_not_named_are_refused_under_any_name(tmp_path, kind):
    (tmp_path / "x.png").write_bytes(encoded(Image.fromarray(GREY), kind))
    with pytest.raises(DataError, match="not an image that can be read"):
        read_image(tmp_path / "x.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_among_images_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    write_picture(tmp_path / "b.png", RGB)
    found = find_images(tmp_path)
    assert remark_image(found["a"]) == []
    read, unreadable = images.read_readable(found, read_image)
    assert list(read) == ["b"] and unreadable == ["a"]
    with pytest.raises(DataError, match="not a regular file"):
        read_image(found["a"])


def test_folder_that_may_not_be_read_is_an_error_and_not_left_out(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.png", RGB)
    write_picture(tmp_path / "closed" / "b.png", RGB)
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    assert list(find_images(tmp_path)) == ["a", "closed__b"]
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="closed: cannot be read") as caught:
        find_images(tmp_path)
    assert "permissions" in caught.value.hint


def test_links_to_folders_are_not_followed_and_one_that_leads_to_itself_is_named(tmp_path):
    write_picture(tmp_path / "images" / "a.png", RGB)
    (tmp_path / "images" / "round").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "self.png").symlink_to("self.png")
    assert list(find_images(tmp_path / "images")) == ["a", "self"]
    with pytest.raises(DataError, match=r"self\.png"):
        read_image(tmp_path / "images" / "self.png")
    write_picture(tmp_path / "masks" / "a.png", GREY)
    assert len(find_pairs(Given((tmp_path / "images",), tmp_path / "masks")).cases) == 2
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop"):
        find_pairs(Given((tmp_path / "images",), tmp_path / "loop"))


def test_name_that_is_no_text_is_named(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        with open(path, "wb"):
            pass
    except OSError:
        pytest.skip("names are text here")
    with pytest.raises(DataError, match="the name is no UTF-8"):
        find_images(tmp_path)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_not_the_fault_of_the_image(tmp_path, monkeypatch, number):
    """Counted as unreadable, a good image would be left out."""

    def fail(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(images, "read_regular", fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        images.read_readable({"a": tmp_path / "a.png"}, images.read_image)


def white_is_zero(path, values) -> None:
    """Write a TIFF file in which 0 is white, the values as they stand in the file."""
    values = np.asarray(values)
    bits = 8 * values.dtype.itemsize
    image = Image.fromarray(255 - values if bits == 8 else values)  # Pillow turns 8 bits round as it writes them
    image.save(path, tiffinfo={262: 0})


def test_16_bit_gray_in_which_0_is_white_is_shown_as_8_bits_are(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    white_is_zero(tmp_path / "8.tif", 255 - ramp)
    white_is_zero(tmp_path / "16.tif", (65535 - ramp.astype(np.uint16) * 257))
    assert (read_image(tmp_path / "8.tif")[..., 0] == ramp).all()
    shown = read_image(tmp_path / "16.tif")[..., 0].astype(int)
    assert np.abs(shown - np.linspace(0, 255, 64).reshape(8, 8)).max() <= 1, "stretched, and as bright as 8 bits"


def test_mask_in_which_0_is_white(tmp_path):
    """Indices are what is stored; black and white is what one sees, and said."""
    indices = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    white_is_zero(tmp_path / "indices.tif", indices)
    assert (read_label(tmp_path / "indices.tif") == indices).all()
    white_is_zero(tmp_path / "shown.tif", np.array([[0, 255], [255, 0]], dtype=np.uint8))
    assert (read_label(tmp_path / "shown.tif") == [[255, 0], [0, 255]]).all()
    remarks = {name: images.remark_label((tmp_path / name).read_bytes(), tmp_path / name) for name in ("shown.tif", "indices.tif")}
    assert "--invert" in remarks["shown.tif"][0] and not remarks["indices.tif"]
