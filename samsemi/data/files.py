"""The image files below a folder, by id; and what else lies there."""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from samsemi.data.images import READERS, known_suffix
from samsemi.errors import DataError

log = logging.getLogger("samsemi")

SUPERPIXELS = "_superpixels"
"""Ends the name of a picture of an image's superpixels, as in the ISIC collection."""


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
