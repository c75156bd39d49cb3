"""BUSI, breast ultrasound: ID_mask.png beside ID.png, and ID_mask_1.png where there are more objects, in folders benign, malignant, normal.

Source: Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 2020.
"""

import logging
import re
from pathlib import Path

from samsemi.data.files import find_images, list_files, real_path, warn_unread
from samsemi.data.images import known_suffix
from samsemi.data.layouts.found import Found, FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.sources import ImageFile, JoinedFiles, MaskFile, MaskSource

log = logging.getLogger("samsemi")

MASK = re.compile(r"(.+)_mask(?:_\d+)?", re.IGNORECASE)
"""The id of a mask, and the id of its image in it."""


def lacks_busi(given: Given) -> str:
    """Whether a mask lies beside its image; looks at names alone."""
    if lack := given.lacks_whole():
        return lack
    stems = {path.with_name(path.name[: -len(suffix)]) for path in list_files(given.folder) if (suffix := known_suffix(path))}
    beside = (found and path.with_name(found[1]) in stems for path in stems for found in [MASK.fullmatch(path.name)])
    return "" if any(beside) else "no ID_mask beside an image ID"


def find_busi(given: Given) -> Found:
    """A case for each image that is no mask; all its masks joined are one."""
    files = find_images(given.folder)
    warn_unread(given.folder)
    image_of = {name: found[1] for name in files if (found := MASK.fullmatch(name))}
    images = {name: path for name, path in files.items() if name not in image_of}
    parts: dict[str, list[Path]] = {}
    for mask, image in image_of.items():
        if image in images:
            parts.setdefault(image, []).append(files[mask])
    homeless = [mask for mask, image in image_of.items() if image not in images]
    if homeless:
        log.warning("left out: %d masks that belong to no image, such as %s", len(homeless), homeless[0])
    cases = [FoundCase(name, ImageFile(real_path(path)), mask_of(parts.get(name, [])), group=name) for name, path in images.items()]
    joined = sum(len(paths) > 1 for paths in parts.values())
    return Found(cases, f"{len(images)} images, {len(parts)} with a mask, {joined} of these joined from several files")


def mask_of(files: list[Path]) -> MaskSource | None:
    if len(files) > 1:
        return JoinedFiles(tuple(files))
    return MaskFile(files[0]) if files else None
