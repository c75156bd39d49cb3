"""The image files below a folder, by id; and what else lies there."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from samsemi.data.images import SUFFIXES, known_suffix
from samsemi.errors import DataError

log = logging.getLogger("samsemi")

JUNK = ("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db")
"""What macOS and Windows leave in folders and archives, in small letters; what is hidden, as .DS_Store, is left out in any case."""
SUPERPIXELS = "_superpixels"
"""Ends the name of a picture of an image's superpixels, as in the ISIC collection."""


def find_images(folder: Path) -> dict[str, Path]:
    """All images below a folder by id: the relative path without suffix, '/' written '__'; sorted by id.

    DataError for a missing or empty folder and for two images of one id.
    """
    folder = Path(folder)
    need_folder(folder)
    found: dict[str, Path] = {}
    for path in list_files(folder):
        suffix = known_suffix(path)
        if suffix is None:
            continue
        refuse_name(path)
        name = path_id(folder, path, suffix)
        if name in found:
            raise DataError(f"{found[name]} and {path} have the same id '{name}'", "rename one of them")
        found[name] = path
    if not found:
        warn_linked(folder)
        others = count_unread(folder)
        raise DataError(
            f"{folder}: no images in it" + (f"; not read: {others}" if others else ""),
            f"convert them to PNG or TIFF: {', '.join(SUFFIXES)} are read" if others else f"put {', '.join(SUFFIXES)} files there",
        )
    return dict(sorted(without_superpixels(found).items()))


def path_id(folder: Path, path: Path, suffix: str | None = None) -> str:
    """The id of a file or folder below ``folder``: its path there without suffix, '/' written '__'; that of the folder itself is its
    name."""
    parts = path.relative_to(folder).parts or (folder.resolve().name,)
    name = "__".join(parts)
    return name[: -len(suffix)] if suffix else name


def need_folder(folder: Path) -> None:
    """DataError where there is no folder."""
    if folder.is_file():
        raise DataError(f"{folder} is a file, not a folder of images", f"give the folder: {folder.parent}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "check the path")


def holds_images(folder: Path) -> bool:
    """Whether ``find_images`` would find some."""
    return any(map(known_suffix, list_files(folder)))


def list_files(folder: Path) -> list[Path]:
    """All that lies below a folder but folders and junk, sorted; DataError where one of these may not be read. Links to folders are not
    followed."""
    return sorted(Path(place, name) for place, _, names in walk(folder) for name in names)


def linked_folders(folder: Path) -> list[Path]:
    """The links to folders below a folder, which ``list_files`` does not follow."""
    return sorted(path for place, names, _ in walk(folder) for path in (Path(place, name) for name in names) if path.is_symlink())


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and each below it, links to folders not followed: where it lies, the folders in it, the rest; without junk. DataError where
    one may not be read."""
    for place, folders, names in os.walk(folder, onerror=refuse_closed):
        folders[:] = [name for name in folders if not is_junk(Path(name))]
        yield place, folders, [name for name in names if not is_junk(Path(name))]


def list_entries(folder: Path) -> list[Path]:
    """What lies in a folder itself, but junk, sorted; nothing for what is no folder. DataError where it may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if not is_junk(path)) if folder.is_dir() else []
    except OSError as error:
        return refuse_closed(error)


def refuse_closed(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})", "change its permissions, or move it elsewhere")


def is_junk(path: Path) -> bool:
    """Whether a file or folder is hidden, or put there by a system of its own accord."""
    return path.name.startswith(".") or path.name.casefold() in JUNK


def real_path(path: Path) -> Path:
    """Where a path leads to; as far as that goes where it leads to itself."""
    return Path(os.path.realpath(path))


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


def count_unread(folder: Path, notes: Sequence[str] = ()) -> str:
    """The files below a folder that have none of the suffixes that are read, nor of ``notes``, as in '24 .dcm, 1 .csv'."""
    unread = (path for path in list_files(folder) if path.is_file() and not known_suffix(path))
    return count_kinds(path for path in unread if path.suffix.lower() not in notes)


def count_kinds(paths: Iterable[Path]) -> str:
    """How many files there are of each kind, as in '24 .dcm, 1 .csv', the most frequent first."""
    kinds = Counter(kind_of(path.name) for path in paths)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))


def kind_of(name: str) -> str:
    """The suffix of a file name, '.nii.gz' whole, or 'without suffix'."""
    parts = Path(name.lower()).suffixes
    return "".join(parts[-2 if parts[-1:] == [".gz"] else -1 :]) or "without suffix"


def warn_unread(folder: Path, notes: Sequence[str] = ()) -> None:
    """Count, in one warning, the files that were passed over; those with the suffixes ``notes`` are not: they are read elsewhere."""
    others = count_unread(folder, notes)
    if others:
        log.warning("%s: not read: %s", folder, others)
    warn_linked(folder)


def warn_linked(folder: Path) -> None:
    """Say that links to folders are not followed, where there are some."""
    links = linked_folders(folder)
    if links:
        log.warning("%s: links to folders are not followed, such as %s: give the folders themselves, or copy them there", folder, links[0])
