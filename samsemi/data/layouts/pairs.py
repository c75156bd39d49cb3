"""Pairs: folders of images and one of masks, matched by file name."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from samsemi.data.files import find_images, list_entries, real_path, warn_unread
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import IMAGES, MASKS, Given, find_folder, find_masks
from samsemi.data.layouts.matching import Matching, match
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.errors import DataError, UsageError

log = logging.getLogger("samsemi")

Thing = TypeVar("Thing")


def lacks_pairs(given: Given) -> str:
    """Any folders may be pairs, once it is known where the masks lie."""
    return "" if given.masks or pair_in(given) else f"no --masks, no {IMAGES[0]}/ and {MASKS[0]}/ of pictures"


def pair_in(given: Given) -> Given | None:
    """The folders of images and masks within the one that was given."""
    images, masks = find_folder(given.folder, *IMAGES), find_masks(given.folder)
    return Given((images,), masks) if images and masks and len(given.images) == 1 else None


def find_pairs(given: Given) -> Found:
    """A case for each image, with its mask where there is one; images lie where they are."""
    given = given if given.masks else pair_in(given) or given
    assert given.masks is not None, "see lacks_pairs"
    refuse_masks(given)
    files = find_all_images(given.images)
    matching = match(files, find_images(given.masks))
    warn_unread(given.masks)
    warn_matching(matching)
    mask_of = {name: MaskFile(path) for name, path in matching.masks.items()}
    cases = [FoundCase(name, ImageFile(real_path(path)), mask_of.get(name), group=name) for name, path in files.items()]
    return Found(cases, f"{len(files)} images, {len(mask_of)} with a mask{matching.note}")


def pair_folders(images: Path, masks: Path | None, prefix: str, split: str | None) -> list[FoundCase]:
    """The cases of one folder of images, with its masks where it has some; ids begin with ``prefix``. DataError where a split that teaches
    or measures lacks some."""
    files = find_images(images)
    warn_unread(images)
    matched: dict[str, Path] = {}
    if masks and list_entries(masks):
        matching = match(files, find_images(masks))
        warn_unread(masks)
        warn_matching(matching)
        matched = matching.masks
    without = [path for name, path in files.items() if name not in matched]
    if without and split not in (None, "unlabeled"):
        raise DataError(
            f"{images}: {len(without)} of {len(files)} images of the split {split} have no mask, such as {without[0].name}",
            "give them one, or move them to a folder unlabeled",
        )
    mask_of = {name: MaskFile(path) for name, path in matched.items()}
    return [
        FoundCase(f"{prefix}{name}", ImageFile(real_path(path)), mask_of.get(name), group=f"{prefix}{name}", split=split)
        for name, path in files.items()
    ]


def warn_matching(matching: Matching, what: str = "masks") -> None:
    """What was noticed in matching names."""
    respelled, homeless = matching.respelled, matching.homeless
    if respelled:
        log.warning("%d %s are named like their images but for case or Unicode form, such as %s", len(respelled), what, respelled[0])
    if homeless:
        log.warning("%d %s belong to no image, such as %s", len(homeless), what, homeless[0])


def refuse_masks(given: Given) -> None:
    """DataError for a file in place of a folder of masks, and for one within the images."""
    masks = given.masks
    assert masks is not None
    if masks.is_file():
        drawn = "draw the annotations as PNG files of class indices (0: background), one per image"
        hint = f"a COCO file holds images, annotations and categories; else {drawn}" if masks.suffix == ".json" else "give the folder"
        raise DataError(f"--masks {masks} is a file; masks are pictures in a folder", hint)
    for images in given.images:
        if real_path(masks).is_relative_to(real_path(images)):
            raise UsageError(
                f"--masks {masks} lies in {images}: its masks would be taken for images, too",
                "put images and masks into folders of their own",
            )


def find_all_images(folders: Sequence[Path], notes: Sequence[str] = ()) -> dict[str, Path]:
    """``find_images`` of several folders; ids that two of them share begin with the name of the folder. Files with the suffixes ``notes``
    are read elsewhere."""
    refuse_nested(folders)
    found = {folder: find_images(folder) for folder in folders}
    for folder in folders:
        warn_unread(folder, notes)
    return join_folders(found)


def join_folders(found: Mapping[Path, Mapping[str, Thing]]) -> dict[str, Thing]:
    """What was found in several folders by id; ids that two of them share begin with the name of the folder."""
    shared = {name for name, count in Counter(name for things in found.values() for name in things).items() if count > 1}
    if shared:
        log.warning("%d ids occur in several folders, such as %s: they begin with the folder's name", len(shared), min(shared))
    names = name_apart([*found])
    return {
        f"{names[folder]}__{name}" if name in shared else name: thing for folder, things in found.items() for name, thing in things.items()
    }


def refuse_nested(folders: Sequence[Path]) -> None:
    """UsageError where a folder lies in another: its images would be found twice."""
    for one in folders:
        for other in folders:
            if one is not other and real_path(one).is_relative_to(real_path(other)):
                raise UsageError(f"{one} lies in {other}: its images would be found twice", f"give {other} alone")


def name_apart(folders: Sequence[Path]) -> Mapping[Path, str]:
    """The last parts of paths, as few as tell them apart."""
    parts = {folder: real_path(folder).parts for folder in folders}
    count = next(n for n in range(1, 1 + max(map(len, parts.values()))) if len({part[-n:] for part in parts.values()}) == len(folders))
    return {folder: "__".join(part.strip(os.sep) for part in path[-count:] if part.strip(os.sep)) for folder, path in parts.items()}
