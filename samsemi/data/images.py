"""Reading and writing pictures: images and label maps. Knows Pillow, nothing of torch."""

import hashlib
import io
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from samsemi.errors import ChangedFile, DataError, TruncatedFile, WrongValues
from samsemi.inputs import need_regular, read_regular
from samsemi.outputs import whole_file

log = logging.getLogger("samsemi")

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""That Pillow may open: it goes by the bytes, not by the name, and opens some others (EPS) by programs of the machine."""
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError)
"""What Pillow raises where bytes are not what their place promises."""
UNKNOWN = f"replace or remove the file; {', '.join(FORMATS)} are read, whatever the name"
SUPERPIXELS = "_superpixels"
"""Ends the name of a picture of an image's superpixels, as in the ISIC collection."""
ORIENTATION = 0x0112
"""EXIF tag."""
TRIMMED = 0.001
"""Share of the darkest, and of the brightest pixels that does not set the range of a grey of more than 8 bits: hot pixels."""
STRETCHED = f"of more than 8 bits: each stretched to 0..255 from its {100 * TRIMMED:g} to its {100 - 100 * TRIMMED:g} percentile"
TURNED = "turned upright as their EXIF orientation says"
WHITE_FIRST = "with a palette of white, black: read by their colors, white as 255"
FROM_ALPHA = "of a single color: read from their alpha channel"


def find_images(folder: Path) -> dict[str, Path]:
    """All images below a folder by id: the relative path without suffix, '/' written '__'; sorted by id.

    DataError for a missing or empty folder and for two images of one id.
    """
    folder = Path(folder)
    if folder.is_file():
        raise DataError(f"{folder} is a file, not a folder of images", f"give the folder: {folder.parent}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "check the path")
    found: dict[str, Path] = {}
    for path in list_files(folder):
        suffix = known_suffix(path)
        if suffix is None or path.name.startswith("."):
            continue
        refuse_name(path)
        name = "__".join(path.relative_to(folder).parts)[: -len(suffix)]
        if name in found:
            raise DataError(f"{found[name]} and {path} have the same id '{name}'", "rename one of them")
        found[name] = path
    if not found:
        others = count_unread(folder)
        raise DataError(
            f"{folder}: no images in it" + (f"; not read: {others}" if others else ""),
            f"convert them to PNG or TIFF: {', '.join(READERS)} are read" if others else f"put {', '.join(READERS)} files there",
        )
    return dict(sorted(without_superpixels(found).items()))


def list_files(folder: Path) -> list[Path]:
    """All that lies below a folder but folders, sorted; DataError where one of these may not be read. Links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})", "change its permissions, or move it elsewhere")

    return sorted(Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names)


def refuse_name(path: Path) -> None:
    """DataError for a name that could not be written into a manifest."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise DataError(f"{ascii(str(path))}: the name is no UTF-8", "rename the file or its folder") from None


def without_superpixels(found: Mapping[str, Path]) -> dict[str, Path]:
    """Images without the pictures of their superpixels that some collections put next to them."""
    drawn = [name for name in found if name.endswith(SUPERPIXELS) and name.removesuffix(SUPERPIXELS) in found]
    if drawn:
        log.warning("left out: %d files ID%s, pictures of the superpixels of an image", len(drawn), SUPERPIXELS)
    return {name: path for name, path in found.items() if name not in drawn}


def count_unread(folder: Path) -> str:
    """The files below a folder that have none of the suffixes that are read, as in '24 .dcm, 1 .csv'; hidden ones are left out."""
    names = [path.name for path in list_files(folder) if path.is_file() and not path.name.startswith(".") and not known_suffix(path)]
    kinds = Counter(kind_of(name) for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))


def kind_of(name: str) -> str:
    """The suffix of a file name, '.nii.gz' whole, or 'without suffix'."""
    parts = Path(name.lower()).suffixes
    return "".join(parts[-2 if parts[-1:] == [".gz"] else -1 :]) or "without suffix"


def warn_unread(folder: Path) -> None:
    """Count, in one warning, the files that were passed over."""
    others = count_unread(folder)
    if others:
        log.warning("%s: not read: %s", folder, others)


def read_bytes(path: Path) -> bytes:
    """What stands in a regular file; DataError for one that is missing or cannot be read."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "restore it, or prepare the data set again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", "replace or remove the file, or change its permissions") from None


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB, upright by its EXIF orientation; greys of more than 8 bits are scaled from their own range,
    the ``TRIMMED`` share of either end left out."""
    return decode_image(read_bytes(path), path)


def read_label(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8 of the values in it; palettes give their indices, or their colors where they are white, black; one color
    with a shape in its alpha channel gives that channel. DataError where colors differ."""
    return decode_label(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """``read_image`` of a file whose bytes are there already."""
    return reader_of(path).image(data, path)


def decode_label(data: bytes, path: Path) -> np.ndarray:
    """``read_label`` of a file whose bytes are there already."""
    values = reader_of(path).label(data, path)
    if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise WrongValues(
            f"{path}: mask values from {values.min()} to {values.max()}",
            "write class indices as 8-bit PNG; `samsemi prepare --mask-values nonzero` makes one class of all above 0",
        )
    return values.astype(np.uint8)


def decode_nonzero(data: bytes, path: Path) -> np.ndarray:
    """(H, W) uint8, 1 where a mask is above 0, whatever the range of its values."""
    return (reader_of(path).label(data, path) > 0).astype(np.uint8)


def picture_image(data: bytes, path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file that Pillow knows."""
    picture = open_picture(data, path)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float32)
        if not np.isfinite(values).all():
            raise WrongValues(f"{path}: pixels that are no numbers", "replace or remove the file")
        return scale_to_uint8(values)
    return np.array(picture.convert("RGB"))


def picture_label(data: bytes, path: Path) -> np.ndarray:
    """(H, W) values of a mask that Pillow knows, integers or floats."""
    picture = open_picture(data, path)
    if picture.mode in ("1", "L", "P"):
        return np.array(picture.convert("L") if picture.mode == "1" or is_white_first(picture) else picture)
    if has_alpha_shape(picture):
        return np.array(picture.getchannel("A"))
    values = np.asarray(picture)
    if values.ndim == 3:
        colors = values[..., :-1] if picture.mode in ("RGBA", "LA") else values
        if (colors != colors[..., :1]).any():
            raise WrongValues(f"{path}: a color picture cannot be a mask", "write masks as grey PNG of class indices")
        values = colors[..., 0]
    return values


def is_white_first(picture: Image.Image) -> bool:
    """Whether a palette shows index 0 as white and every other index in use as black: its indices are the negative of what one sees."""
    if picture.mode != "P":
        return False
    colors = [*zip(*[iter(picture.getpalette("RGB") or [])] * 3, strict=True)]
    others = {1, *np.unique(np.asarray(picture)).tolist()} - {0}
    return len(colors) > max(others) and sum(colors[0]) == 3 * 255 and not any(any(colors[k]) for k in others)


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


def remark_label(data: bytes, path: Path) -> list[str]:
    """``remark_image`` of a mask, which must be sound."""
    if reader_of(path) is not PICTURE:
        return []
    picture = open_picture(data, path)
    remarks = [WHITE_FIRST] if is_white_first(picture) else [FROM_ALPHA] if has_alpha_shape(picture) else []
    return remarks + [remark for remark in remark_image(io.BytesIO(data)) if remark == TURNED]


def log_remarks(kind: str, remarks: Mapping[str, int]) -> None:
    """One line for each remark, with the number of files that it is about."""
    for remark, count in remarks.items():
        log.info("%d %s %s", count, kind, remark)


def refuse_ambiguous(picture: Image.Image, path: Path) -> None:
    """DataError for a file of which Pillow would give a part in silence: one page of several, the high bytes of colors of 16 bits."""
    pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    if pages > 1:
        raise DataError(
            f"{path}: {pages} pages in one file" + (" (the channels of one image?)" if pages in (3, 4) else ""),
            "write each page as a file of its own; channels last (H, W, 3) where pages are channels",
        )
    if picture.mode.startswith(("RGB", "LA")) and any("16" in str(tile[3]) for tile in getattr(picture, "tile", ())):
        raise DataError(f"{path}: color or alpha of 16 bits per channel", "write it as RGB of 8 bits per channel, or as gray of 16 bits")


def open_picture(data: bytes, path: Path) -> Image.Image:
    """A fully decoded picture; DataError for a file that is truncated, too large or not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                refuse_ambiguous(picture, path)
                picture.load()
                return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}", "cut it into smaller images") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {'not an image that can be read' if data else 'an empty file'}", UNKNOWN) from None
    except DAMAGE as error:
        raise TruncatedFile(f"{path}: damaged image ({error})", "replace or remove the file") from None


class Reader(NamedTuple):
    """How files of one format are read: both functions take the bytes of a file, and its path to name it in a DataError."""

    image: Callable[[bytes, Path], np.ndarray]
    """-> (H, W, 3) uint8 RGB, upright."""
    label: Callable[[bytes, Path], np.ndarray]
    """-> (H, W) values of any type of number."""


PICTURE = Reader(picture_image, picture_label)
"""Pillow, which looks at the bytes: also of files with another suffix that a manifest names."""
READERS = dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), PICTURE)
"""Suffix -> how such files are read. Files with these suffixes are found in folders."""


def known_suffix(path: Path) -> str | None:
    """The longest suffix in READERS that a file name ends in, whatever its case."""
    fitting = [suffix for suffix in READERS if Path(path).name.lower().endswith(suffix)]
    return max(fitting, key=len, default=None)


def reader_of(path: Path) -> Reader:
    """By its suffix; Pillow for one that is not known."""
    suffix = known_suffix(path)
    return READERS[suffix] if suffix else PICTURE


def scale_to_uint8(values: np.ndarray) -> np.ndarray:
    """(H, W) greys of any range -> (H, W, 3) uint8 from their least to their greatest, the ``TRIMMED`` share of either end left out,
    unless nothing differs between them."""
    cut = int(TRIMMED * values.size)
    ends = np.partition(values.ravel(), (cut, values.size - 1 - cut))
    low, high = float(ends[cut]), float(ends[values.size - 1 - cut])
    if low == high:
        low, high = float(values.min()), float(values.max())
    grey = np.rint((values.clip(low, high) - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


Source = TypeVar("Source")
Images = dict[str, np.ndarray]


def read_images(paths: Mapping[str, Path]) -> tuple[Images, list[str]]:
    """``read_readable`` of image files."""
    return read_readable(paths, read_image)


def read_readable(sources: Mapping[str, Source], read: Callable[[Source], np.ndarray]) -> tuple[Images, list[str]]:
    """Images by id, and the ids of those that cannot be read, each with a warning. ChangedFile is raised, not counted."""
    images, unreadable = {}, []
    for name, source in sources.items():
        try:
            images[name] = read(source)
        except ChangedFile:
            raise
        except DataError as error:
            log.warning("skipped: %s", error.message)
            unreadable.append(name)
    return images, unreadable


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


def hash_pixels(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
