"""Pairs: a folder of images and one of masks, matched by file name."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from samsemi.data.files import find_images, warn_unread
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.errors import DataError, UsageError

log = logging.getLogger("samsemi")


def lacks_pairs(given: Given) -> str:
    """Any folders may be pairs."""
    return "" if given.masks else "no --masks"


def find_pairs(given: Given) -> Found:
    """A case for each image, with its mask where there is one; images lie where they are."""
    images, masks = given.folder, given.masks
    assert masks is not None, "see lacks_pairs"
    files = find_images(images)
    warn_unread(images)
    if masks.is_file():
        drawn = "draw the annotations as PNG files of class indices (0: background), one per image"
        hint = drawn if masks.suffix == ".json" else "give the folder"
        raise DataError(f"--masks {masks} is a file; masks are pictures in a folder", hint)
    if real_path(masks).is_relative_to(real_path(images)):
        raise UsageError(
            f"--masks {masks} lies in {images}: its masks would be taken for images, too", "put images and masks into folders of their own"
        )
    found = find_images(masks)
    warn_unread(masks)
    renamed = spell_alike(found, files)
    matched, suffix, homeless = match_masks(files, renamed)
    as_found = {path: name for name, path in found.items()}
    respelled = [as_found[path] for name, path in matched.items() if not as_found[path].startswith(name)]
    if respelled:
        log.warning("%d masks are named like their images but for case or Unicode form, such as %s", len(respelled), respelled[0])
    if homeless:
        log.warning("%d masks belong to no image, such as %s", len(homeless), homeless[0])
    mask_of = {name: MaskFile(path) for name, path in matched.items()}
    cases = [FoundCase(name, ImageFile(real_path(path)), mask_of.get(name), group=name) for name, path in files.items()]
    return Found(cases, f"{len(files)} images, {len(matched)} with a mask" + (f" (mask names end in '{suffix}')" if suffix else ""))


def real_path(path: Path) -> Path:
    """Where a path leads to; as far as that goes where it leads to itself."""
    return Path(os.path.realpath(path))


def spell_alike(masks: Mapping[str, Path], images: Mapping[str, Path]) -> Mapping[str, Path]:
    """The masks, those that begin like one image but for case or Unicode form spelled like it; as they are where that is ambiguous."""
    spelled = {fold(name): name for name in images}
    if len(spelled) < len(images) or len({fold(name) for name in masks}) < len(masks):
        return masks
    renamed = {}
    for name, path in masks.items():
        composed = unicodedata.normalize("NFC", name)
        cut = next((cut for cut in range(len(composed), 0, -1) if fold(composed[:cut]) in spelled), 0)
        renamed[spelled[fold(composed[:cut])] + composed[cut:] if cut else name] = path
    return renamed


def fold(name: str) -> str:
    """A name without what file systems may change in it: case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def match_masks(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[dict[str, Path], str, list[str]]:
    """Image id -> mask file; the suffix that mask names carry; the mask names that belong to no image.

    A mask is named like its image, or like it with one suffix that all masks share (``_segmentation``, ``_mask``). A
    suffix does not go on with the digits of a number: 10 is no mask of 1.
    DataError where nothing matches.
    """
    suffixes = Counter(
        name[cut:]
        for name in masks
        for cut in range(1, len(name) + 1)
        if name[:cut] in images and not (name[cut - 1].isdigit() and name[cut : cut + 1].isdigit())
    )
    if not suffixes:
        raise DataError(
            f"no mask is named like an image: images such as {first_names(images)}, masks such as {first_names(masks)}",
            "name a mask like its image, with or without a suffix that all masks share",
        )
    suffix = max(suffixes, key=lambda s: (suffixes[s], -len(s)))
    pairs = {name[: len(name) - len(suffix)]: path for name, path in masks.items() if name.endswith(suffix)}
    matched = {name: pairs[name] for name in images if name in pairs}
    used = set(matched.values())
    return matched, suffix, [name for name, path in masks.items() if path not in used]


def first_names(paths: Mapping[str, Path], n: int = 2) -> str:
    return ", ".join(path.name for path in list(paths.values())[:n])
