"""Writing what was found: images that cannot stay where they are, masks as class indices, and all hashes."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from samsemi.data.about import COPIED
from samsemi.data.dataset import with_hashes
from samsemi.data.images import known_suffix, log_remarks, read_bytes
from samsemi.data.layouts.found import FoundCase
from samsemi.data.manifest import Case
from samsemi.data.mask_values import MaskValues
from samsemi.data.pictures import write_picture
from samsemi.data.volumes.origins import Origin, write_origins
from samsemi.data.volumes.sources import SliceImage
from samsemi.outputs import whole_file


def is_hidden(case: FoundCase) -> bool:
    """Whether the mask of a case must not be seen before something is measured."""
    return case.split == "unlabeled" and case.mask is not None


def write_cases(
    cases: Sequence[FoundCase], folder: Path, values: MaskValues, copy: bool, advance: Callable[[], None] = lambda: None
) -> list[Case]:
    """Write every image that cannot stay where it is as images/ID.png, with ``copy`` the others as they are, every mask as class indices:
    masks/ID.png, those of unlabeled cases truth/ID.png; the cases with these, and all hashes."""
    written, remarks, origins = [], Counter[str](), dict[str, Origin]()
    for case in cases:
        assert case.split, "cases are dealt before they are written"
        image, label = write_image(case, folder, copy, remarks), None
        if case.mask:
            label = folder / ("truth" if is_hidden(case) else "masks") / f"{case.id}.png"
            write_picture(label, values.read(case.mask))
        mask, truth = (None, label) if is_hidden(case) else (label, None)
        new = with_hashes(Case(case.id, image, mask, truth, case.split, case.group))
        written.append(replace(new, volume=case.volume, slice=case.slice, spacing=case.spacing))
        if case.volume and case.volume not in origins and isinstance(case.image, SliceImage):
            origins[case.volume] = case.image.origin()
        advance()
    log_remarks("images", remarks)
    write_origins(folder, origins)
    return written


def write_image(case: FoundCase, folder: Path, copy: bool, remarks: Counter[str]) -> Path:
    """The file of a case's image in the data set; counts what was done to one that is written anew."""
    if case.image.stays and not copy:
        return case.image.path
    if case.image.stays:
        target = folder / "images" / f"{case.id}{known_suffix(case.image.path) or case.image.path.suffix}"
        with whole_file(target, sync=False) as part:
            part.write_bytes(read_bytes(case.image.path))
        return target
    target = folder / "images" / f"{case.id}.png"
    write_picture(target, case.image.read())
    remarks.update(case.image.remarks())
    return target


def listed_files(folder: Path) -> frozenset[str]:
    """The masks, hidden ones included, that the manifest of a folder lists, and its images where they are copies; none where it cannot be
    read."""
    try:
        copied = json.loads((folder / "dataset.json").read_bytes()).get("images") == COPIED
        with open(folder / "manifest.csv", newline="", encoding="utf-8-sig") as file:
            columns = ("mask", "truth", "image") if copied else ("mask", "truth")
            return frozenset(row[column] or "" for row in csv.DictReader(file) for column in columns)
    except (OSError, ValueError, KeyError, AttributeError, RecursionError, csv.Error):
        return frozenset()
