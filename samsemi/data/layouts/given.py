"""What a user gives ``prepare`` to find a data set in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from samsemi.data.files import holds_images, list_entries
from samsemi.errors import DataError

IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "gt", "groundtruth", "ground_truth")
"""How folders are called, whatever the case."""
SPLIT_NAMES = {
    **dict.fromkeys(("labeled", "labelled"), "labeled"),
    **dict.fromkeys(("unlabeled", "unlabelled"), "unlabeled"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("train", "training"), None),
}
"""How splits are called, whatever the case -> the split; None, of what is dealt."""
DRIVE = re.compile(r"[A-Za-z]:")
"""Begins an absolute path of Windows."""


@dataclass(frozen=True)
class Given:
    """Folders of images, and what belongs to them where the user says."""

    images: tuple[Path, ...]
    masks: Path | None = None
    """A folder or file."""
    target: str | None = None
    """Which of several kinds of masks."""
    named: bool = False
    """Whether the user has named the layout, so that nothing is guessed."""
    window: tuple[float, float] | None = None
    """Of volumes: the values shown black and white; None leaves it to each."""

    @property
    def folder(self) -> Path:
        """The folder of a data set that brings its own masks, or the first."""
        return self.images[0]

    def lacks_whole(self) -> str:
        """Why this is not one folder that brings its own masks, empty where it is."""
        if len(self.images) > 1:
            return f"it is one folder, {len(self.images)} were given"
        if self.masks:
            return "it is found from its folder alone, without --masks"
        return ""

    def lacks_outlines(self) -> str:
        """Why there can be no outlines in place of masks, empty where there can: these are files, beside images or in --masks."""
        if self.masks is None and len(self.images) > 1:
            return "no --masks"
        masks = self.masks or find_masks(self.folder)
        return f"masks are pictures in {masks}" if masks and masks.is_dir() and holds_images(masks) else ""

    def alternatives(self) -> Iterator["Given"]:
        """These, and where they are a single folder, the only one that it holds: what was packed together with its folder."""
        given = self
        yield given
        while not given.lacks_whole() and (only := only_folder(given.folder)):
            given = replace(given, images=(only,))
            yield given


def only_folder(folder: Path) -> Path | None:
    """The folder that is all that a folder holds."""
    inside = list_entries(folder)
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() else None


def find_folder(folder: Path, *names: str) -> Path | None:
    """The folder in a folder that has the first of these names that there is, whatever the case."""
    inside = {path.name.casefold(): path for path in list_entries(folder) if path.is_dir()}
    return next((inside[name.casefold()] for name in names if name.casefold() in inside), None)


def find_file(folder: Path, *names: str) -> Path | None:
    """``find_folder`` of a file."""
    inside = {path.name.casefold(): path for path in list_entries(folder) if path.is_file()}
    return next((inside[name.casefold()] for name in names if name.casefold() in inside), None)


def find_masks(folder: Path) -> Path | None:
    """The folder of pictures in a folder that is called as one of masks is."""
    found = find_folder(folder, *MASKS)
    return found if found and holds_images(found) else None


def name_inside(name: object, folder: Path, where: str) -> Path:
    """A path below a folder that a file names; DataError, beginning with ``where``, for one that leads out of it."""
    text = str(name).replace("\\", "/")
    path = Path(text)
    if not isinstance(name, str) or not text or "\0" in text or ".." in path.parts or path.is_absolute() or DRIVE.match(text):
        raise DataError(f"{where}: {ascii(name)[:80]} leads out of the data set", f"write file names relative to {folder}")
    return path
