"""Masks per class: a folder of masks for each class, masks/polyp/ID.png and masks/tool/ID.png."""

from pathlib import Path

from samsemi.data.files import find_images, list_entries, real_path, warn_unread
from samsemi.data.images import known_suffix
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import SPLIT_NAMES, Given
from samsemi.data.layouts.matching import Matching, match
from samsemi.data.layouts.pairs import find_all_images, pair_in, refuse_masks, warn_matching
from samsemi.data.sources import ClassFiles, ImageFile
from samsemi.errors import DataError, UsageError


def lacks_class_folders(given: Given) -> str:
    """Whether the masks lie in folders alone, which the images do not have."""
    given = given if given.masks else pair_in(given) or given
    if not given.masks or not given.masks.is_dir():
        return "no --masks, no masks/ of pictures"
    entries = list_entries(given.masks)
    folders = [path.name for path in entries if path.is_dir()]
    if not folders or any(known_suffix(path) for path in entries if path.is_file()):
        return f"{given.masks} has no sub-folders, or masks beside them"
    shared = {path.name for images in given.images for path in list_entries(images) if path.is_dir()} & set(folders)
    if shared or any(name.casefold() in SPLIT_NAMES for name in folders) or {images.name for images in given.images} & set(folders):
        return f"the sub-folders of {given.masks} are named like those of the images, or like splits"
    return ""


def find_class_folders(given: Given) -> Found:
    """A case for each image; its mask shows the classes in whose folders it has one, and is missing where it is in none of them."""
    given = given if given.masks else pair_in(given) or given
    assert given.masks is not None, "see lacks_class_folders"
    refuse_masks(given)
    images = find_all_images(given.images)
    folders = [path for path in list_entries(given.masks) if path.is_dir()]
    matchings = {folder.name: match_class(images, folder) for folder in folders}
    layers: dict[str, list[tuple[int, Path]]] = {}
    for class_id, matching in enumerate(matchings.values(), start=1):
        for name, path in matching.masks.items():
            layers.setdefault(name, []).append((class_id, path))
    if len(folders) > 1 and not given.named and all(len(found) == 1 for found in layers.values()):
        raise UsageError(
            f"{given.masks}: masks lie in {', '.join(folder.name for folder in folders[:6])}, each image in one of these: classes, or not?",
            "--layout class-folders makes a class of each folder, --layout pairs leaves their folders out of account",
        )
    cases = [
        FoundCase(name, ImageFile(real_path(path)), ClassFiles(tuple(layers[name])) if name in layers else None, group=name)
        for name, path in images.items()
    ]
    counts = ", ".join(f"{len(matching.masks)} of {name}" for name, matching in matchings.items())
    return Found(cases, f"{len(images)} images, {len(layers)} with a mask; masks of classes: {counts}", tuple(matchings))


def match_class(images: dict[str, Path], folder: Path) -> Matching:
    """The masks of one class; DataError, naming the folder, where they belong to no image."""
    try:
        matching = match(images, find_images(folder))
    except DataError as error:
        raise DataError(f"{folder}: {error.message}", error.hint) from None
    warn_unread(folder)
    warn_matching(matching, f"masks of {folder.name}")
    return matching
