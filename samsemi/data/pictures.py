"""Pictures that Pillow knows: as images, as masks, and writing PNG."""

import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from samsemi.data.colors import describe_colors, one_color
from samsemi.errors import DataError, TruncatedFile, WrongValues
from samsemi.inputs import need_regular
from samsemi.outputs import whole_file

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""That Pillow may open: it goes by the bytes, not by the name, and opens some others (EPS) by programs of the machine."""
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
"""What Pillow raises where bytes are not what their place promises."""
UNKNOWN = f"replace or remove the file; {', '.join(FORMATS)} are read, whatever the name"
TIFF_BYTES = (b"II*\0", b"MM\0*")
"""How TIFF files begin."""
ODD_TIFF = "write it as TIFF of 8 or 16 bits, of 32 bits, or of floats of 32 bits"
OTHER_COLORS = ("CMYK", "YCbCr", "LAB", "HSV", "RGBX")
"""Modes of Pillow in which black is not 0 in every channel, or white not 255."""
UNSIGNED = "samsemi: unsigned"
"""In what Pillow knows of a picture: its whole numbers are not negative."""
WHITE_ZERO = "samsemi: white is zero"
"""In what Pillow knows of a picture: 0 is shown white. It turns the values of 8 bits round and leaves those of more as they stand."""
ORIENTATION, PHOTOMETRIC, SAMPLE_FORMAT, BITS = 0x0112, 262, 339, 258
"""Tags of EXIF and TIFF."""
TRIMMED = 0.001
"""Share of the darkest, and of the brightest pixels that does not set the range of a grey of more than 8 bits: hot pixels."""
STRETCHED = f"of more than 8 bits: each stretched to 0..255 from its {100 * TRIMMED:g} to its {100 - 100 * TRIMMED:g} percentile"
TURNED = "turned upright as their EXIF orientation says"
WHITE_FIRST = "with a palette of white, black: read by their colors, white as 255"
ONE_COLOR = "of one color on black, read as black and white:"
SHOWN = "of TIFF in which 0 is white (WhiteIsZero): read as they are shown, white as 255; --invert takes what is stored"
FROM_ALPHA = "of a single color: read from their alpha channel"


def picture_image(data: bytes, path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file that Pillow knows."""
    picture = open_picture(data, path)
    if picture.mode.startswith(("I", "F")):
        values = to_numbers(picture).astype(np.float32)
        if not np.isfinite(values).all():
            raise WrongValues(f"{path}: pixels that are no numbers", "replace or remove the file")
        gray = scale_to_uint8(values)
        return 255 - gray if picture.info.get(WHITE_ZERO) else gray
    return to_rgb(picture)


def to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.array(picture.convert("RGB"))


def to_numbers(picture: Image.Image) -> np.ndarray:
    """The values of a picture as they stand in its file; Pillow has no mode for whole numbers from 0 to 2^32."""
    values = np.asarray(picture)
    return values.view(np.uint32) if picture.mode == "I" and picture.info.get(UNSIGNED) else values


def picture_label(data: bytes, path: Path) -> np.ndarray:
    """(H, W) values of a mask that Pillow knows, integers or floats."""
    picture = open_picture(data, path)
    if picture.mode in ("1", "L", "P"):
        values = np.array(picture.convert("L") if picture.mode == "1" or is_white_first(picture) else picture)
        return 255 - values if holds_indices_shown_white(picture) else values
    if has_alpha_shape(picture):
        return np.array(picture.getchannel("A"))
    values = to_rgb(picture) if picture.mode in OTHER_COLORS else to_numbers(picture)
    if values.ndim == 3:
        colors = values[..., :-1] if picture.mode in ("RGBA", "LA") else values
        if (colors != colors[..., :1]).any():
            if one_color(to_rgb(picture)):
                return np.where(colors.any(axis=2), np.uint8(255), np.uint8(0))
            raise WrongValues(
                f"{path}: a color picture cannot be a mask; it shows {describe_colors(to_rgb(picture))}",
                "write masks as grey PNG of class indices, or give --color-map FILE with a line name,r,g,b for each color",
            )
        values = colors[..., 0]
    return values


def is_white_first(picture: Image.Image) -> bool:
    """Whether a palette shows index 0 as white and every other index in use as black: its indices are the negative of what one sees."""
    if picture.mode != "P":
        return False
    colors = [*zip(*[iter(picture.getpalette("RGB") or [])] * 3, strict=True)]
    others = {1, *np.unique(np.asarray(picture)).tolist()} - {0}
    return len(colors) > max(others) and sum(colors[0]) == 3 * 255 and not any(any(colors[k]) for k in others)


def holds_indices_shown_white(picture: Image.Image) -> bool:
    """Whether 0 is shown white in a picture that is not of black and white alone: its stored values are what is meant."""
    return bool(picture.info.get(WHITE_ZERO)) and picture.mode == "L" and not set(np.unique(np.asarray(picture)).tolist()) <= {0, 255}


def has_alpha_shape(picture: Image.Image) -> bool:
    """Whether a picture of a single color shows its shape in the alpha channel."""
    if picture.mode not in ("RGBA", "LA"):
        return False
    values = np.asarray(picture)
    return bool((values[..., :-1] == values[0, 0, :-1]).all() and (values[..., -1] < 255).any())


def remark_image(source: Path | io.BytesIO) -> list[str]:
    """What is done to an image before it is used that its owner may not expect; opens its header alone. Empty for one that is damaged."""
    with suppress(*DAMAGE, Image.DecompressionBombError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(source, Path):
            need_regular(source)
        with Image.open(source, formats=FORMATS) as picture:
            stretched = [STRETCHED] if picture.mode.startswith(("I", "F")) else []
            return stretched + ([TURNED] if picture.getexif().get(ORIENTATION, 1) != 1 else [])
    return []


def remark_mask(data: bytes, path: Path) -> list[str]:
    """``remark_image`` of a mask, which must be sound."""
    picture = open_picture(data, path)
    shown = picture.info.get(WHITE_ZERO) and picture.mode in ("1", "L") and not holds_indices_shown_white(picture)
    remarks = [WHITE_FIRST] if is_white_first(picture) else [FROM_ALPHA] if has_alpha_shape(picture) else remark_color(picture)
    remarks += [SHOWN] if shown else []
    return remarks + [remark for remark in remark_image(io.BytesIO(data)) if remark == TURNED]


def remark_color(picture: Image.Image) -> list[str]:
    """That a mask is of one color, neither black nor gray, on black."""
    color = one_color(to_rgb(picture)) if picture.mode in ("RGB", "RGBA") else None
    return [f"{ONE_COLOR} {','.join(map(str, color))}"] if color and len(set(color)) > 1 else []


def picture_size(path: Path) -> tuple[int, int, int]:
    """Height and width as they are stored, and the EXIF orientation, from the header of a picture alone; DataError where there is none."""
    try:
        need_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as picture:
                return picture.height, picture.width, int(picture.getexif().get(ORIENTATION, 1))
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read ({error})", UNKNOWN) from None


def turn_upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W) of a picture as it is stored -> as its EXIF orientation says that it is shown."""
    return np.ascontiguousarray(TURNS.get(orientation, lambda stored: stored)(values))


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}
"""EXIF orientation -> what is done."""


def refuse_ambiguous(picture: Image.Image, path: Path) -> None:
    """DataError for a file of which Pillow would give a part in silence: one page of several, the high bytes of colors of 16 bits."""
    pages = getattr(picture, "n_frames", 1) if picture.format in ("TIFF", "GIF", "WEBP", "PNG") else 1
    if pages > 1 and picture.format != "TIFF":
        raise DataError(f"{path}: an animation of {pages} frames", "write each frame that counts as a file of its own, PNG for instance")
    if pages > 1:
        raise DataError(
            f"{path}: {pages} pages in one file" + (" (the channels of one image?)" if pages in (3, 4) else ""),
            "write each page as a file of its own; channels last (H, W, 3) where pages are channels",
        )
    if any(layout.startswith(("RGB", "LA")) and ";16" in layout for layout in stored_layouts(picture)):
        raise DataError(f"{path}: color or alpha of 16 bits per channel", "write it as RGB of 8 bits per channel, or as gray of 16 bits")
    refuse_signed(picture, path)


def stored_layouts(picture: Image.Image) -> list[str]:
    """How Pillow says that the pixels lie in the parts of a file that is not decoded yet, as in 'RGB;16B'."""
    arguments = [tile[3] for tile in getattr(picture, "tile", ())]
    return [str(found[0] if isinstance(found, tuple) and found else found) for found in arguments]


def refuse_signed(picture: Image.Image, path: Path) -> None:
    """DataError for TIFF of signed numbers of 8 bits, which Pillow takes for unsigned ones."""
    if sample_format(picture) == (2, 8):
        raise DataError(f"{path}: TIFF of signed numbers of 8 bits", ODD_TIFF)


def sample_format(picture: Image.Image) -> tuple[int, int]:
    """Of the values in a TIFF file 1 for whole numbers, 2 for signed ones, 3 for floats, and their bits; (0, 0) of other files."""
    tags = getattr(picture, "tag_v2", None)
    return (tags.get(SAMPLE_FORMAT, (1,))[0], tags.get(BITS, (1,))[0]) if tags else (0, 0)


def is_white_zero(picture: Image.Image) -> bool:
    """Whether a TIFF file says that 0 is shown white."""
    return (getattr(picture, "tag_v2", None) or {}).get(PHOTOMETRIC) == 0


def open_picture(data: bytes, path: Path) -> Image.Image:
    """A fully decoded picture; DataError for a file that is truncated, too large or not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                refuse_ambiguous(picture, path)
                picture.load()
                picture.info[UNSIGNED] = sample_format(picture) == (1, 32)
                picture.info[WHITE_ZERO] = is_white_zero(picture)
                return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}", "cut it into smaller images") from None
    except UnidentifiedImageError:
        problem = "not an image that can be read" if data else "an empty file"
        raise DataError(f"{path}: {problem}", ODD_TIFF if data[:4] in TIFF_BYTES else UNKNOWN) from None
    except DAMAGE as error:
        raise TruncatedFile(f"{path}: damaged image ({error})", "replace or remove the file") from None


def scale_to_uint8(values: np.ndarray) -> np.ndarray:
    """(H, W) greys of any range -> (H, W, 3) uint8 from their least to their greatest, the ``TRIMMED`` share of either end left out,
    unless nothing differs between them."""
    low, high = trimmed_range(values.ravel())
    if low == high:
        low, high = float(values.min()), float(values.max())
    return np.repeat(stretch(values, low, high)[..., None], 3, axis=2)


def trimmed_range(values: np.ndarray) -> tuple[float, float]:
    """The least and the greatest of (N,) values, the ``TRIMMED`` share of either end left out."""
    cut = int(TRIMMED * values.size)
    ends = np.partition(values, (cut, values.size - 1 - cut))
    return float(ends[cut]), float(ends[values.size - 1 - cut])


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """float32 values -> uint8: ``low`` is 0, ``high`` 255, and what lies beyond is cut."""
    return np.rint((values.clip(low, high) - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def write_picture(path: Path, picture: np.ndarray | Image.Image, source: str | None = None) -> None:
    """Write (H, W) or (H, W, 3) uint8, or a picture, as PNG, whole or not at all; its header says that it was written here, and from what
    ``source``."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    mark = PngInfo()
    mark.add_text("Software", "samsemi")
    if source:
        mark.add_text("Source", source)
    with whole_file(path, sync=False) as part:
        image.save(part, format="PNG", pnginfo=mark)


def source_of(path: Path) -> str | None:
    """What a picture, which can be read, was written from; None where it does not say."""
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.info.get("Source")
