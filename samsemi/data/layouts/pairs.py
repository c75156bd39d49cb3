"""Pairs: a folder of images and one of masks, matched by file name."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from samsemi.data.dataset import Case
from samsemi.data.images import find_images, warn_unread
from samsemi.data.layouts.found import Found
from samsemi.errors import DataError, UsageError

log = logging.getLogger("samsemi")


def fits_pairs(images: Path, masks: Path | None) -> bool:
    """Any folders may be pairs."""
    return True


def find_pairs(images: Path, masks: Path | None) -> Found:
    """A case for each image, with its mask where there is one; images lie where they are."""
    files = find_images(images)
    warn_unread(images)
    if masks is None:
        raise UsageError("prepare needs masks for some of the images", "give --masks DIR")
    warn_unread(masks)
    matched, suffix, homeless = match_masks(files, find_images(masks))
    if homeless:
        log.warning("%d masks belong to no image, such as %s", len(homeless), homeless[0])
    cases = [Case(name, path.resolve(), matched.get(name), None, split="unlabeled", group=name) for name, path in files.items()]
    return Found(cases, f"{len(files)} images, {len(matched)} with a mask" + (f" (mask names end in '{suffix}')" if suffix else ""))


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
