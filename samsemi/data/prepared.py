"""Writing what was found: images that cannot stay where they are, masks as class indices, and all hashes; and a data set again."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from samsemi.data.about import COPIED
from samsemi.data.dataset import Dataset, refuse_changed, with_hashes
from samsemi.data.images import known_suffix, log_remarks, read_bytes
from samsemi.data.layouts.found import FoundCase
from samsemi.data.manifest import Case
from samsemi.data.mask_values import MaskValues
from samsemi.data.masks import write_mask
from samsemi.data.pictures import write_picture
from samsemi.data.volumes.origins import Origin, read_origins, write_origins
from samsemi.data.volumes.sources import SliceImage
from samsemi.inputs import hash_file
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
    path = case.image.path
    if case.image.stays:
        return write_copy(read_bytes(path), path, folder / "images", case.id) if copy else path
    target = folder / "images" / f"{case.id}.png"
    write_picture(target, case.image.read())
    remarks.update(case.image.remarks())
    return target


def copy_dataset(dataset: Dataset, folder: Path, labels: Mapping[str, np.ndarray], copy: bool, advance: Callable[[], None]) -> Dataset:
    """A data set again in another folder, where the cases of ``labels`` are labeled with these (H, W) uint8 masks.

    All else stays as it is, recorded hashes included. Masks, and images in the folder of the data set, are copied byte by byte; with
    ``copy`` images elsewhere, too. The hidden truth of cases that are labeled now stays out of it.
    """
    cases = {}
    for case in dataset.cases.values():
        if case.id in labels:
            labeled = folder / "masks" / f"{case.id}.png"
            write_mask(labeled, labels[case.id])
            case = replace(case, split="labeled", mask=labeled, mask_sha256=hash_file(labeled), truth=None, truth_sha256=None)
        else:
            kinds = (("masks", case.mask), ("truth", case.truth))
            mask, truth = (path and copy_unchanged(case, path, folder / kind) for kind, path in kinds)
            case = replace(case, mask=mask, truth=truth)
        if copy or case.image.is_relative_to(dataset.folder):
            case = replace(case, image=copy_unchanged(case, case.image, folder / "images"))
        cases[case.id] = case
        advance()
    write_origins(folder, read_origins(dataset.folder))
    return replace(dataset, folder=folder, cases=cases)


def copy_unchanged(case: Case, path: Path, folder: Path) -> Path:
    """A copy of an image or mask of a case; ChangedFile where it is not the one that was prepared."""
    data = read_bytes(path)
    refuse_changed(case, path, data)
    return write_copy(data, path, folder, case.id)


def write_copy(data: bytes, path: Path, folder: Path, name: str) -> Path:
    """What was read of a file, under another name with its suffix."""
    target = folder / f"{name}{known_suffix(path) or path.suffix}"
    with whole_file(target, sync=False) as part:
        part.write_bytes(data)
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
