"""Which mask, or file of objects, belongs to which image: by their names."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from samsemi.data.images import known_suffix
from samsemi.errors import DataError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Matching:
    """The masks of images."""

    masks: dict[str, Path]
    """Image id -> mask file."""
    suffix: str
    """That mask names carry after the image's."""
    homeless: list[str]
    """Ids of masks that belong to no image."""
    respelled: list[str]
    """Ids of masks that differ from those of their images in case or Unicode form."""
    way: str = ""
    """How names were compared, where ids were not alike."""

    @property
    def note(self) -> str:
        """' (...)' where there is something to say."""
        said = [f"mask names end in '{self.suffix}'"] if self.suffix else []
        said += [self.way] if self.way else []
        return f" ({', '.join(said)})" if said else ""


def match(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Matching:
    """Match files by id or, where that matches none, by file name whatever the folder or, at last, by what differs among the names of
    images and among those of masks. DataError where nothing matches, and where a mask may be of several images."""
    for way, known_by in WAYS.items():
        found = match_names(known_by(images), known_by(masks), masks, exact=known_by is by_core)
        if found:
            name, mask = next(iter(found.masks.items()))
            said = replace(found, way=way and f"{way}: {images[name].name} with {mask.name}")
            return add_strays(said, images, masks) if known_by is by_id else said
    raise DataError(
        f"no mask is named like an image: images such as {first_names(images)}, masks such as {first_names(masks)}",
        "name a mask like its image, with or without a suffix that all masks share",
    )


def match_names(images: Mapping[str, str], masks: Mapping[str, str], files: Mapping[str, Path], exact: bool) -> Matching | None:
    """Match by the names of images and masks, id -> name; with ``exact`` without a suffix. None where nothing matches.

    A mask is named like its image, or like it with one suffix that all masks share (``_segmentation``, ``_mask``).
    """
    images_of, masks_of = holders(images), spell_alike(holders(masks), set(images.values()))
    suffix = find_suffix(images_of, masks_of)
    if suffix is None or (exact and suffix):
        return None
    matched: dict[str, Path] = {}
    used: dict[str, str] = {}
    for name, ids in images_of.items():
        found = masks_of.get(name + suffix, [])
        if found and len(ids) + len(found) > 2:
            kind, more = ("image", ids) if len(ids) > 1 else ("mask", found)
            raise DataError(
                f"which {kind} belongs to which file is not clear: {', '.join(more[:4])} are all called '{name}'",
                "put images and masks into sub-folders of the same names, or name each file once",
            )
        if found:
            matched[ids[0]], used[found[0]] = files[found[0]], name
    homeless = [mask for mask in masks if mask not in used]
    respelled = [mask for mask, name in used.items() if not masks[mask].startswith(name)]
    return Matching({name: matched[name] for name in images if name in matched}, suffix, homeless, respelled)


def add_strays(found: Matching, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Matching:
    """Masks in no sub-folder that are named like an image in one; DataError where there are several such."""
    called = holders(by_stem(images))
    more: dict[str, Path] = {}
    used = set()
    for mask in found.homeless:
        ids = called.get(mask.removesuffix(found.suffix), []) if mask == stem(masks[mask]) else []
        if len(ids) > 1:
            raise DataError(
                f"{masks[mask]} may be the mask of {', '.join(ids[:4])}", "put masks into sub-folders named like those of the images"
            )
        if ids and ids[0] not in found.masks:
            more[ids[0]] = masks[mask]
            used.add(mask)
    merged = {**found.masks, **more}
    return replace(
        found,
        masks={name: merged[name] for name in images if name in merged},
        homeless=[mask for mask in found.homeless if mask not in used],
    )


def find_suffix(images: Iterable[str], masks: Iterable[str]) -> str | None:
    """The suffix with which most masks are named like an image; None where none is. A suffix does not go on with the digits of a number:
    10 is no mask of 1."""
    known = set(images)
    suffixes = Counter(
        name[cut:]
        for name in masks
        for cut in range(1, len(name) + 1)
        if name[:cut] in known and not (name[cut - 1].isdigit() and name[cut : cut + 1].isdigit())
    )
    return max(suffixes, key=lambda suffix: (suffixes[suffix], -len(suffix)), default=None)


def holders(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Name -> the ids that have it."""
    found = defaultdict(list)
    for name, key in names.items():
        found[key].append(name)
    return dict(found)


def by_id(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: name for name in files}


def by_stem(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: stem(path) for name, path in files.items()}


def by_core(files: Mapping[str, Path]) -> dict[str, str]:
    """What is left of file names without what all of them begin or end with, up to a number: 001 of image_001.

    Those of which nothing is left keep their name.
    """
    stems = by_stem(files)
    start = re.sub(r"\d+$", "", os.path.commonprefix(list(stems.values())))
    rests = {name: text[len(start) :] for name, text in stems.items()}
    end = re.sub(r"^\d+", "", os.path.commonprefix([rest[::-1] for rest in rests.values()])[::-1])
    return {name: fold(rest.removesuffix(end)) or stems[name] for name, rest in rests.items()}


WAYS = {"": by_id, "by file name, whatever the folder": by_stem, "by what differs in their names": by_core}
"""What is said of it -> by what each of some files is known."""


def stem(path: Path) -> str:
    """The name of a file without its suffix."""
    return path.name.removesuffix(path.name[-len(known_suffix(path) or path.suffix) :]) if path.suffix else path.name


def spell_alike(masks: Mapping[str, Value], images: Iterable[str]) -> Mapping[str, Value]:
    """The masks, those that begin like one image but for case or Unicode form spelled like it; as they are where that is ambiguous."""
    known = set(images)
    spelled = {fold(name): name for name in known}
    if len(spelled) < len(known) or len({fold(name) for name in masks}) < len(masks):
        return masks
    renamed = {}
    for name, value in masks.items():
        composed = unicodedata.normalize("NFC", name)
        cut = next((cut for cut in range(len(composed), 0, -1) if fold(composed[:cut]) in spelled), 0)
        renamed[spelled[fold(composed[:cut])] + composed[cut:] if cut else name] = value
    return renamed


def fold(name: str) -> str:
    """A name without what file systems may change in it: case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def first_names(paths: Mapping[str, Path], n: int = 2) -> str:
    return ", ".join(path.name for path in list(paths.values())[:n])
