"""What can be wrong with a data set: every problem at once, and what was found in it. Each file is read and decoded once."""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samsemi.data.dataset import IGNORE, NO_CLASS_BUT_255, Case, Dataset, changed_problems, decode_case_label
from samsemi.data.findings import Finding, finding_of
from samsemi.data.images import decode_image, hash_pixels, is_blank, log_remarks, read_bytes
from samsemi.data.leaks import RANKS, leaks, splits_by_group
from samsemi.data.manifest import SPLITS
from samsemi.data.near_duplicates import count_blocks, find_near_duplicates, make_thumbnail
from samsemi.data.pictures import TURNED, remark_image
from samsemi.errors import DataError

Progress = Callable[[str, int, str], AbstractContextManager[Callable[..., None]]]
"""``console.progress``: what is done, how many steps of what unit."""


def no_progress(description: str, total: int, unit: str) -> AbstractContextManager[Callable[..., None]]:
    return nullcontext(lambda *_: None)


@dataclass
class Seen:
    """What was found in the files that were opened so far."""

    holders: dict[str, list[Case]] = field(default_factory=lambda: defaultdict(list))
    """Hash of pixels -> the cases that have them."""
    blank: set[str] = field(default_factory=set)
    """Ids of images of a single color."""
    thumbnails: dict[str, np.ndarray] = field(default_factory=dict)
    """Id -> a (64, 64) uint8 thumbnail of the image."""
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """(H, W) of images."""
    remarks: Counter[str] = field(default_factory=Counter)
    """What was done to images -> to how many."""
    pixels: dict[str, np.ndarray] = field(default_factory=lambda: {split: np.zeros(256, dtype=np.int64) for split in SPLITS})
    """Split -> (256,) pixels of each value in the masks that could be read."""
    masks: dict[str, np.ndarray] = field(default_factory=lambda: {split: np.zeros(256, dtype=np.int64) for split in SPLITS})
    """Split -> (256,) masks in which each value occurs."""

    @property
    def all_pixels(self) -> np.ndarray:
        """(256,) pixels of each mask value."""
        return np.sum(list(self.pixels.values()), axis=0)


@dataclass(frozen=True)
class Verified:
    """What opening every file of a data set has shown."""

    findings: list[Finding]
    found: dict[str, Any]
    """The closing table."""

    @property
    def problems(self) -> list[Finding]:
        """Without which the data set would be sound, classes aside."""
        return [finding for finding in self.findings if finding.is_problem and finding.kind != "missing_class"]

    @property
    def missing_classes(self) -> list[Finding]:
        """Classes that occur in no labeled or no val mask. They stand apart: a small data set may be dealt so."""
        return [finding for finding in self.findings if finding.kind == "missing_class"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_problem]


def verify(dataset: Dataset, progress: Progress = no_progress) -> Verified:
    """Open every file of a data set. A mask that has changed since it was prepared is named as such where nothing else is wrong with
    it."""
    seen, findings = Seen(), list(split_findings(dataset))
    with progress("check", len(dataset.cases), "images") as advance:
        for case in dataset.cases.values():
            findings += case_findings(case, len(dataset.classes), seen)
            advance()
    log_remarks("images", seen.remarks)
    findings += [*duplicate_findings(seen), *class_findings(dataset, seen), *near_duplicate_findings(dataset, seen, progress)]
    return Verified(findings, describe_dataset(dataset, seen))


def case_findings(case: Case, num_classes: int, seen: Seen) -> Iterator[Finding]:
    """What is wrong with the files of a case; a mask is looked at although its image cannot be read."""
    image = None
    try:
        data = read_bytes(case.image)
        image = decode_image(data, case.image)
    except DataError as error:
        yield finding_of(case.id, error)
    else:
        note_image(case, data, image, seen)
        yield from changed_findings(case, case.image, data)
        if is_blank(image):
            seen.blank.add(case.id)
            yield Finding("blank_image", (case.id,), f"{case.image}: all pixels have one color")
    for path in filter(None, (case.mask, case.truth)):
        try:
            yield from mask_findings(case, path, image, num_classes, seen)
        except DataError as error:
            yield finding_of(case.id, error)


def note_image(case: Case, data: bytes, image: np.ndarray, seen: Seen) -> None:
    seen.holders[hash_pixels(image)].append(case)
    seen.thumbnails[case.id] = make_thumbnail(image)
    seen.sizes[image.shape[:2]] += 1
    seen.remarks.update(remark_image(io.BytesIO(data)))


def mask_findings(case: Case, path: Path, image: np.ndarray | None, num_classes: int, seen: Seen) -> Iterator[Finding]:
    """What is wrong with a mask; DataError for one that cannot be read or holds no class indices."""
    data = read_bytes(path)
    label = decode_case_label(case, path, data, num_classes)
    count = np.bincount(label.ravel(), minlength=256)
    seen.pixels[case.split] += count
    seen.masks[case.split] += count > 0
    if image is not None and image.shape[:2] != label.shape:
        yield size_finding(case, image, label)
    else:
        yield from changed_findings(case, path, data)
    if not count[1:IGNORE].any():
        yield Finding("empty_mask", (case.id,), f"mask of case {case.id} holds no class")


TURN = "turn the mask as its image is shown, or remove the orientation from the EXIF data"


def size_finding(case: Case, image: np.ndarray, label: np.ndarray) -> Finding:
    """A mask must have the size of its image."""
    (height, width), (rows, columns) = image.shape[:2], label.shape
    turned = [name for name, path in (("image", case.image), ("mask", case.mask or case.truth)) if path and TURNED in remark_image(path)]
    exif = f" ({' and '.join(turned)} turned by EXIF orientation)" if turned else ""
    text = f"mask of case {case.id}: {columns} x {rows} pixels, image {case.image.name} has {width} x {height}{exif}"
    return Finding("other_size", (case.id,), text, TURN if turned else "")


def changed_findings(case: Case, path: Path, data: bytes) -> list[Finding]:
    return [Finding("changed", (case.id,), problem) for problem in changed_problems(case, path, data)]


def split_findings(dataset: Dataset) -> Iterator[Finding]:
    """Groups that stand in more than one split, and splits that training cannot do without."""
    for group, splits in splits_by_group((case.group, case.split) for case in dataset.cases.values()).items():
        if len(splits) > 1:
            kind = "group_in_two_splits" if leaks(splits) else "labeled_and_unlabeled"
            yield Finding(kind, (group,), f"group {group} stands in {' and '.join(sorted(splits))}")
    for split in ("labeled", "val"):
        if not dataset.split(split):
            yield Finding("missing_split", (split,), f"no {split} cases")


def duplicate_findings(seen: Seen) -> Iterator[Finding]:
    """The same pixels under two ids in different splits: a leak where one of them measures."""
    for cases in seen.holders.values():
        if cases[0].id in seen.blank:
            continue
        splits = {case.split for case in cases}
        if len(splits) > 1:
            *others, last = [f"{case.id} ({case.split})" for case in cases[::-1]]
            kind = "duplicate" if leaks(splits) else "labeled_and_unlabeled"
            yield Finding(kind, tuple(case.id for case in cases), f"{', '.join(others)} and {last} are the same image")


def near_duplicate_findings(dataset: Dataset, seen: Seen, progress: Progress) -> Iterator[Finding]:
    """For each image of val and test the one most like it that is trained on or, of test, in val; equal pixels are left out."""
    pixels = {case.id: pixels for pixels, cases in seen.holders.items() for case in cases}
    cases = [dataset.cases[name] for name in seen.thumbnails]
    ranks = [RANKS[case.split] for case in cases]
    with progress("compare", count_blocks(ranks), "blocks") as advance:
        for alike in find_near_duplicates(list(seen.thumbnails.values()), ranks, advance):
            one, other = cases[alike.image], cases[alike.other]
            if pixels[one.id] != pixels[other.id]:
                text = f"{one.id} ({one.split}) looks like {other.id} ({other.split}), similarity {alike.similarity:.2f}"
                yield Finding("near_duplicate", (one.id, other.id), text)


def class_findings(dataset: Dataset, seen: Seen) -> list[Finding]:
    """Classes that no labeled or no val mask holds: nothing can be learnt or measured of them."""
    splits = [split for split in ("labeled", "val") if seen.pixels[split].any()]
    if splits and seen.all_pixels[IGNORE] and not seen.all_pixels[1:IGNORE].any():
        return [Finding("missing_class", dataset.classes[1:], f"the masks hold {NO_CLASS_BUT_255}; `samsemi prepare` converts them")]
    named = list(enumerate(dataset.classes))[1:]
    missing = [(split, name) for split in splits for k, name in named if not seen.pixels[split][k]]
    return [Finding("missing_class", (name,), f"class {name} occurs in no {split} mask") for split, name in missing]


def describe_dataset(dataset: Dataset, seen: Seen) -> dict[str, Any]:
    """The closing table of a data set."""
    pixels = seen.all_pixels
    known = pixels[: len(dataset.classes)]
    hashes = [sha256 for case in dataset.cases.values() for sha256 in case.files().values()]
    return {
        "cases": len(dataset.cases),
        "splits": {split: len(dataset.split(split)) for split in SPLITS},
        "groups": len({case.group for case in dataset.cases.values()}),
        "image_sizes": {f"{w} x {h}": count for (h, w), count in seen.sizes.most_common(5)},
        "class_pixel_share": {name: float(n) / max(int(known.sum()), 1) for name, n in zip(dataset.classes, known, strict=True)},
        "class_masks": {
            name: {split: int(seen.masks[split][k]) for split in SPLITS} for k, name in enumerate(dataset.classes[1:], start=1)
        },
        "ignored_pixel_share": float(pixels[IGNORE]) / max(int(pixels.sum()), 1),
        "files": {"compared": len(hashes) - hashes.count(None), "without_hash": hashes.count(None)},
    }
