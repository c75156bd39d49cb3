"""Images and masks as scanners, the internet and enemies make them."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile import volumes
from hostile.case import DATA, REFUSED, USAGE, Case, Place, all_of, at, data, link, text
from PIL import Image, TiffImagePlugin

PREDICT = "predict in --model {warm} --out out"
PREPARE = "prepare in/images --masks in/masks --out out --val 2 --test 2"
GRAY = (np.arange(48 * 48).reshape(48, 48) % 251).astype(np.uint8)


def picture(kind: str, array: np.ndarray = GRAY, mode: str | None = None, **options: object) -> bytes:
    """A file of a format, whatever its name will be."""
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    """A gray PNG that says it is so large, whatever it holds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, width, height, 1, 24, 0, 4, 0, 0, 0, 0) + b"\0" * 4


def circular_tiff() -> bytes:
    """A TIFF whose directory is followed by itself."""
    tags = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 64))
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 8)


def huge_tiff() -> bytes:
    return circular_tiff().replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 2**31 - 1))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\n(pwned) (w) file closefile\nshowpage\n%%EOF\n"
TRAILING_TEXT = b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 80_000_000)
ONE = {
    "EPS named .png": ("x.png", data(EPS), "not an image"),
    "PDF named .png": ("x.png", data(b"%PDF-1.4\n%%EOF"), "not an image"),
    "PPM named .png": ("x.png", data(picture("PPM")), "not an image"),
    "GIF named .png": ("x.png", data(picture("GIF")), ""),
    "WebP named .jpg": ("x.jpg", data(picture("WEBP")), ""),
    "ICO named .png": ("x.png", data(picture("ICO")), "not an image"),
    "FITS named .tif": ("x.tif", data(b"SIMPLE  =                    T".ljust(2880)), "not an image"),
    "program named .png": ("x.png", data(b"\x7fELF" + bytes(500)), "not an image"),
    "archive named .png": ("x.png", data(b"PK\x03\x04" + bytes(500)), "not an image"),
    "HDF5 named .png": ("x.png", data(b"\x89HDF\r\n\x1a\n" + bytes(500)), "not an image"),
    "empty file": ("x.png", data(b""), "an empty file"),
    "text": ("x.png", text("no image\n" * 100), "not an image"),
    "bomb: 60,000 x 60,000 in 100 bytes": ("x.png", data(png(60_000, 60_000)), "x.png"),
    "bomb: 2^31 wide": ("x.png", data(png(2**31 - 1, 2**31 - 1)), "x.png"),
    "bomb: 80 MB of comment": ("x.png", data(png(48, 48, chunk(*TRAILING_TEXT), rows=bytes(49 * 48))), ""),
    "size 0 x 0": ("x.png", data(png(0, 0)), "x.png"),
    "fewer rows than it says": ("x.png", data(png(48, 48, rows=bytes(49))), ""),
    "cut in half": ("x.png", data(picture("PNG")[: len(picture("PNG")) // 2]), "damaged image"),
    "JPEG cut in half": ("x.jpg", data(picture("JPEG")[:400]), "damaged image"),
    "wrong checksum": ("x.png", data(picture("PNG").replace(b"IDAT", b"IDAQ")), "x.png"),
    "TIFF of itself": ("x.tif", data(circular_tiff()), ""),
    "TIFF of 2^31 columns": ("x.tif", data(huge_tiff()), "x.tif"),
    "TIFF of floats with NaN": ("x.tif", data(picture("TIFF", np.full((48, 48), np.nan, np.float32))), "x.tif"),
    "TIFF of 32 bit": ("x.tif", data(picture("TIFF", GRAY.astype(np.int32) * 9999)), ""),
    "several pages": ("x.tif", data(picture("TIFF", save_all=True, append_images=[Image.fromarray(GRAY)] * 2)), "pages"),
    "BMP of negative width": ("x.bmp", data(bmp(-48, 48)), "x.bmp"),
    "BMP of 2^31 rows": ("x.bmp", data(bmp(48, -(2**31))), "x.bmp"),
    "pipe": ("x.png", lambda path: os.mkfifo(path), "x.png"),
    "endless device": ("x.png", link("/dev/zero"), "x.png"),
    "device without end": ("x.png", link("/dev/random"), "x.png"),
    "empty device": ("x.png", link("/dev/null"), "x.png"),
    "link to itself": ("x.png", link("x.png"), "x.png"),
    "link to nothing": ("x.png", link("nowhere.png"), "x.png"),
    "folder named .png": ("x.png", lambda path: path.mkdir(), ""),
}
FINE = {
    "one pixel": ("x.png", data(picture("PNG", np.zeros((1, 1), np.uint8)))),
    "one row of 20,000 pixels": ("x.png", data(picture("PNG", np.zeros((1, 20_000), np.uint8)))),
    "CMYK": ("x.jpg", data(picture("JPEG", mode="CMYK"))),
    "gray with alpha": ("x.png", data(picture("PNG", mode="LA"))),
    "nonsense in EXIF": ("x.jpg", data(picture("JPEG", exif=b"Exif\0\0" + b"\xff" * 64))),
    "nonsense as color profile": ("x.png", data(picture("PNG", icc_profile=b"\xff" * 64))),
}
NAMES = {
    "with a line break": ("a\nb.png", data(picture("PNG"))),
    "like an option": ("--help.png", data(picture("PNG"))),
    "of other scripts": ("\u202egnp.\u0645\u0631\u062d.png", data(picture("PNG"))),
    "of 250 letters": ("x" * 246 + ".png", data(picture("PNG"))),
    "that is not UTF-8": (os.fsdecode(b"\xff\xfe.png"), data(picture("PNG"))),
    "of blanks": ("   .png", data(picture("PNG"))),
    "hidden": (".x.png", data(picture("PNG"))),
    "with a shell's words": ("$(touch pwned);`id`.png", data(picture("PNG"))),
}


def deep_folders(place: Place) -> None:
    """An image below 150 folders."""
    start = os.getcwd()
    os.chdir(place.here)
    for name in ("in", *["d" * 20] * 150):
        os.mkdir(name)
        os.chdir(name)
    Path("x.png").write_bytes(picture("PNG"))
    os.chdir(start)


def images_with_masks(change: Callable[[Path], object]) -> Callable[[Place], None]:
    """All images and masks, of which the first mask is changed."""

    def make(place: Place) -> None:
        place.copy("images", "in/images")
        change(min(place.copy("masks", "in/masks").iterdir()))

    return make


def every(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        for mask in path.parent.iterdir():
            change(mask)

    return write


def paint(make: Callable[[np.ndarray], np.ndarray], kind: str = "PNG", suffix: str = ".png") -> Callable[[Path], None]:
    """A mask of other values."""

    def write(path: Path) -> None:
        with Image.open(path) as mask:
            array = make(np.array(mask))
        path.unlink()
        path.with_suffix(suffix).write_bytes(picture(kind, array))

    return write


def instead(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        write(path)

    return replace


def five_classes(mask: np.ndarray) -> np.ndarray:
    return (np.arange(mask.size).reshape(mask.shape) % 6).astype(np.uint8)


def only_damaged(path: Path) -> None:
    """A mask that is an empty file, among masks that show nothing."""
    every(paint(lambda m: m * 0))(path)
    path.write_bytes(b"")


def unreadable_folder(place: Place) -> None:
    place.copy("images", "in")
    (place.here / "in/closed").mkdir()
    (place.here / "in/closed/x.png").write_bytes(picture("PNG"))
    (place.here / "in/closed").chmod(0)


def unreadable_image(place: Place) -> None:
    (place.copy("images", "in") / "p000_0.png").chmod(0)


def with_images(make: Callable[[Place], object]) -> Callable[[Place], None]:
    return all_of(lambda place: place.copy("images", "in"), make)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        start = os.getcwd()
        os.chdir(path.parent)
        door.bind(path.name)
        os.chdir(start)


def dirty_tiff(path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "x" * 2_000_000
    Image.fromarray(GRAY).save(path, tiffinfo=tags)


CASES = [
    *(Case(f"volume: {name}", PREDICT, (DATA,), said, at(f"in/{file}", write)) for name, (file, write, said) in volumes.ONE.items()),
    *(
        Case(f"image: {name}", PREDICT, (DATA,) if said else (0, DATA), said, at(f"in/{file}", write))
        for name, (file, write, said) in ONE.items()
    ),
    *(Case(f"image: {name}", PREDICT, (0, DATA), "", at(f"in/{file}", write)) for name, (file, write) in FINE.items()),
    *(Case(f"name: {name}", PREDICT, (0, DATA), "", at(f"in/{file}", write)) for name, (file, write) in NAMES.items()),
    Case("image: description of 2 MB", PREDICT, 0, '"written": 1', at("in/x.tif", dirty_tiff)),
    Case("image: a pipe among good ones", PREDICT, 0, '"written": 18', with_images(at("in/x.png", lambda path: os.mkfifo(path)))),
    Case("image: a socket among good ones", PREDICT, 0, '"written": 18', with_images(at("in/x.png", listening))),
    Case("image: a bomb among good ones", PREDICT, 0, '"unreadable": 1', with_images(at("in/x.png", data(png(60_000, 60_000))))),
    Case("image: an EPS among good ones", PREDICT, 0, '"unreadable": 1', with_images(at("in/x.png", data(EPS)))),
    Case("name: two alike", PREDICT, DATA, "same id", with_images(at("in/p000_0.tif", data(picture("TIFF"))))),
    Case("folder: in itself", PREDICT, 0, '"written": 18', with_images(at("in/round", link("../in")))),
    Case("name: of 150 folders", PREDICT, (0, DATA, REFUSED), "", deep_folders),
    Case("folder: one that may not be read", PREDICT, DATA, "closed", unreadable_folder, user=True),
    Case(
        "folder: one that may not be read, prepared", "prepare in --masks {masks} --out out", DATA, "closed", unreadable_folder, user=True
    ),
    Case("image: one that may not be read", PREDICT, 0, '"unreadable": 1', unreadable_image, user=True),
    Case("mask: EPS named .png", PREPARE, DATA, "p000_0.png", images_with_masks(data(EPS))),
    Case("mask: a pipe", PREPARE, DATA, "p000_0", images_with_masks(instead(lambda path: os.mkfifo(path)))),
    Case("mask: an endless device", PREPARE, DATA, "p000_0", images_with_masks(instead(link("/dev/zero")))),
    Case("mask: a link to itself", PREPARE, DATA, "p000_0", images_with_masks(instead(link("p000_0.png")))),
    Case("mask: a bomb", PREPARE, DATA, "p000_0", images_with_masks(data(png(60_000, 60_000)))),
    Case("mask: empty file", PREPARE, DATA, "p000_0.png: an empty file", images_with_masks(data(b""))),
    Case("mask: floats", PREPARE, (0, DATA), "", images_with_masks(paint(lambda m: m.astype(np.float32), "TIFF", ".tif"))),
    Case("mask: 32 bit", PREPARE, DATA, "", images_with_masks(every(paint(lambda m: m.astype(np.int32) * 70000, "TIFF", ".tif")))),
    Case(
        "mask: floats that are no classes", PREPARE, DATA, "p000_0", images_with_masks(paint(lambda m: m + np.float32(0.5), "TIFF", ".tif"))
    ),
    Case("mask: damaged, all others empty", PREPARE, DATA, "p000_0.png: an empty file", images_with_masks(only_damaged)),
    Case("mask: all empty", PREPARE, DATA, "all 18 masks are empty", images_with_masks(every(paint(lambda m: m * 0)))),
    Case("mask: another size", PREPARE, DATA, "pixels", images_with_masks(paint(lambda m: m[:-7]))),
    Case("mask: all ignored", f"{PREPARE} --mask-values indices", DATA, "", images_with_masks(every(paint(lambda m: m * 0 + 255)))),
    Case("mask: five classes, two named", f"{PREPARE} --classes a,b", (DATA, USAGE), "", images_with_masks(every(paint(five_classes)))),
    Case("mask: one of five classes, two named", f"{PREPARE} --classes a,b", (DATA, USAGE), "", images_with_masks(paint(five_classes))),
    Case("masks: the folder of images", "prepare {images} --masks {images} --out out", USAGE, "taken for images"),
    Case("masks: a pipe", "prepare {images} --masks pipe --out out", DATA, "pipe", at("pipe", lambda path: os.mkfifo(path))),
    Case("images: a device", "prepare /dev/zero --masks {masks} --out out", DATA, "/dev/zero"),
    Case("images: a device, predicted", "predict /dev/zero --model {warm} --out out", DATA, "/dev/zero"),
    Case("groups: an expression that never ends", "prepare {images} --masks {masks} --groups '^(p+)+(a+)+$' --out out", (DATA, USAGE)),
    Case("predictions: of another size", "eval {dataset} --predictions in --out out", DATA, "", at("in/x.png", data(picture("PNG")))),
    Case(
        "out: in the folder of images",
        "predict in --model {warm} --out in/out",
        REFUSED,
        "whose pictures are read",
        with_images(lambda _: None),
    ),
]
