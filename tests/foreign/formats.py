"""A sample of every format of pictures."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from foreign.layouts import draw_gray, gray_image
from foreign.world import NUMBERS, Sample, draw_image, draw_label, draw_polyp, save_images, save_masks
from PIL import Image


def as_files(
    suffix: str, make: Callable[[int], Image.Image] | None = None, masks: bool = False, **options: object
) -> Callable[[Path], None]:
    """Images, or masks of 0 and 255, in one format, the others as PNG; ``make`` gives their pictures by number."""

    def draw(folder: Path) -> None:
        if masks:
            save_images(folder, "images/#.png")
        else:
            save_masks(folder, "masks/#.png")
        place = folder / ("masks" if masks else "images")
        place.mkdir()
        for number in NUMBERS:
            plain = Image.fromarray(draw_polyp(number) * np.uint8(255) if masks else draw_image(number))
            (make(number) if make else plain).save(place / f"{number:03d}.{suffix}", **options)

    return draw


def of_gray(kind: str, factor: float) -> Callable[[int], Image.Image]:
    """Pictures of a type of number, gray values multiplied by ``factor``."""
    return lambda number: Image.fromarray((draw_gray(number) * np.float64(factor)).astype(kind))


def turned(pixels: Callable[[int], np.ndarray], number: int) -> Image.Image:
    """Stored on its side, with the EXIF orientation that turns it upright."""
    picture = Image.fromarray(np.rot90(pixels(number)).copy())
    picture.getexif()[0x0112] = 6
    return picture


def draw_turned(folder: Path) -> None:
    """Image and mask alike."""
    for name, pixels in (("images", draw_image), ("masks", lambda number: draw_polyp(number) * np.uint8(255))):
        (folder / name).mkdir()
        for number in NUMBERS:
            picture = turned(pixels, number)
            picture.save(folder / name / f"{number:03d}.png", exif=picture.getexif())


def with_alpha(number: int) -> Image.Image:
    picture = Image.fromarray(draw_image(number))
    picture.putalpha(200)
    return picture


def in_palette(number: int) -> Image.Image:
    """Class indices with the colors of PASCAL VOC."""
    picture = Image.fromarray(draw_label(number))
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    return picture


def draw_animation(kind: str) -> Callable[[Path], None]:
    def draw(folder: Path) -> None:
        as_files(kind, lossless=True)(folder)
        frames = [Image.fromarray(draw_image(number)) for number in (1, 2, 3)]
        frames[0].save(folder / "images" / f"001.{kind}", save_all=True, append_images=frames[1:])

    return draw


def draw_pages(folder: Path) -> None:
    as_files("tif")(folder)
    pages = [Image.fromarray(draw_image(number)) for number in (1, 2, 3)]
    pages[0].save(folder / "images" / "001.tif", save_all=True, append_images=pages[1:])


def draw_postscript(folder: Path) -> None:
    """A file that Pillow would hand to another program, under the name of a picture."""
    as_files("png")(folder)
    buffer = io.BytesIO()
    Image.fromarray(draw_image(1)).save(buffer, "EPS")
    (folder / "images" / "001.png").write_bytes(buffer.getvalue())


def draw_foreign(folder: Path) -> None:
    save_masks(folder, "masks/#.png")
    (folder / "images").mkdir()
    for number in NUMBERS:
        (folder / "images" / f"{number:03d}.svs").touch()


PAIRS = "images --masks masks"
SAMPLES = [
    Sample("PNG, RGBA", "images/001.png", as_files("png", with_alpha), PAIRS),
    Sample("PNG, gray of 16 bits", "images/001.png", as_files("png", of_gray("uint16", 257)), PAIRS, image=gray_image),
    Sample("JPEG", "images/001.jpg", as_files("jpg"), PAIRS, image=None),
    Sample("JPEG as masks", "masks/001.jpg", as_files("jpg", masks=True, quality=95), PAIRS),
    Sample("EXIF orientation, image and mask alike", "images/001.png, masks/001.png", draw_turned, PAIRS),
    Sample("TIFF of 8 bits, compressed", "images/001.tif", as_files("tif", compression="tiff_lzw"), PAIRS),
    Sample("TIFF of 16 bits", "images/001.tif", as_files("tif", of_gray("uint16", 200)), PAIRS, image=gray_image),
    Sample("TIFF of 32 bits", "images/001.tiff", as_files("tiff", of_gray("int32", 1000)), PAIRS, image=gray_image),
    Sample("TIFF of floats", "images/001.tiff", as_files("tiff", of_gray("float32", 0.01)), PAIRS, image=gray_image),
    Sample(
        "TIFF, masks of 32 bits",
        "masks/001.tif",
        as_files("tif", lambda n: Image.fromarray(draw_polyp(n).astype(np.int32)), masks=True),
        PAIRS,
    ),
    Sample("TIFF of several pages", "images/001.tif", draw_pages, PAIRS, None),
    Sample("BMP", "images/001.bmp", as_files("bmp"), PAIRS),
    Sample("WebP", "images/001.webp", as_files("webp", lossless=True), PAIRS),
    Sample("WebP, animated", "images/001.webp", draw_animation("webp"), PAIRS, None),
    Sample("GIF as masks", "masks/001.gif", as_files("gif", masks=True), PAIRS),
    Sample("GIF", "images/001.gif", as_files("gif", of_gray("uint8", 1)), PAIRS, image=gray_image),
    Sample("GIF, animated", "images/001.gif", draw_animation("gif"), PAIRS, None),
    Sample("palette of class indices", "masks/001.png", as_files("png", in_palette, masks=True), PAIRS, draw_label),
    Sample("PostScript called .png", "images/001.png", draw_postscript, PAIRS, None),
    Sample("a format that is not read", "images/001.svs", draw_foreign, PAIRS, None),
]
