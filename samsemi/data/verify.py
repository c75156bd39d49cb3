"""What can be wrong with a data set: every problem at once, and what was found in it."""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from samsemi.data.dataset import IGNORE, NO_CLASS_BUT_255, SPLITS, Case, Dataset, changed_problems, decode_case_label
from samsemi.data.images import TURNED, decode_image, hash_pixels, log_remarks, read_bytes, remark_image
from samsemi.errors import SamsemiError


@dataclass
class Seen:
    """What was found in the files that were opened so far."""

    holders: dict[str, Case] = field(default_factory=dict)
    """Hash of pixels -> the first case that has them."""
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """(H, W) of images."""
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    """(256,) pixels of each mask value."""
    remarks: Counter[str] = field(default_factory=Counter)
    """What was done to images -> to how many."""
    by_split: dict[str, np.ndarray] = field(default_factory=lambda: {split: np.zeros(256, dtype=np.int64) for split in SPLITS})
    """Split -> (256,) pixels of each value in the masks that could be read."""


class Verified(NamedTuple):
    """What opening every file of a data set has shown."""

    problems: list[str]
    """All of them, one line each."""
    found: dict[str, object]
    """The closing table."""
    missing_classes: list[str]
    """A line for each class that occurs in no labeled or no val mask. They stand apart: a small data set may be dealt so."""


def verify(dataset: Dataset, advance: Callable[[], None] = lambda: None) -> Verified:
    """Open every file of a data set. A file that has changed since it was prepared is named as such where nothing else is wrong
    with it."""
    problems = split_problems(dataset)
    seen = Seen()
    for case in dataset.cases.values():
        try:
            for problem in case_problems(case, len(dataset.classes), seen):
                problems.append(problem)
        except SamsemiError as error:
            problems.append(error.message)
        advance()
    log_remarks("images", seen.remarks)
    return Verified(problems, describe_dataset(dataset, seen), class_problems(dataset, seen))


def case_problems(case: Case, num_classes: int, seen: Seen) -> Iterator[str]:
    """What is wrong with the files of a case; DataError for one that cannot be read."""
    data = read_bytes(case.image)
    image = decode_image(data, case.image)
    seen.sizes[image.shape[:2]] += 1
    seen.remarks.update(remark_image(io.BytesIO(data)))
    yield from duplicate_problems(case, image, seen.holders) or changed_problems(case, case.image, data)
    for path in filter(None, (case.mask, case.truth)):
        data = read_bytes(path)
        label = decode_case_label(case, path, data, num_classes)
        count = np.bincount(label.ravel(), minlength=256)
        seen.pixels += count
        seen.by_split[case.split] += count
        yield from size_problems(case, image, label) or changed_problems(case, path, data)


def class_problems(dataset: Dataset, seen: Seen) -> list[str]:
    """Classes that no labeled or no val mask holds: nothing can be learnt or measured of them."""
    splits = [split for split in ("labeled", "val") if seen.by_split[split].any()]
    if splits and seen.pixels[IGNORE] and not seen.pixels[1:IGNORE].any():
        return [f"the masks hold {NO_CLASS_BUT_255}; `samsemi prepare` converts them"]
    named = list(enumerate(dataset.classes))[1:]
    return [f"class {name} occurs in no {split} mask" for split in splits for k, name in named if not seen.by_split[split][k]]


def size_problems(case: Case, image: np.ndarray, label: np.ndarray) -> list[str]:
    """A mask must have the size of its image."""
    (height, width), (rows, columns) = image.shape[:2], label.shape
    if (height, width) == (rows, columns):
        return []
    turned = [name for name, path in (("image", case.image), ("mask", case.mask or case.truth)) if path and TURNED in remark_image(path)]
    exif = f" ({' and '.join(turned)} turned by EXIF orientation)" if turned else ""
    return [f"mask of case {case.id}: {columns} x {rows} pixels, image {case.image.name} has {width} x {height}{exif}"]


def split_problems(dataset: Dataset) -> list[str]:
    """Groups that stand in more than one split, and splits that training cannot do without."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    for case in dataset.cases.values():
        splits_of[case.group].add(case.split)
    problems = [f"group {group} stands in {' and '.join(sorted(splits))}" for group, splits in splits_of.items() if len(splits) > 1]
    return problems + [f"no {split} cases" for split in ("labeled", "val") if not dataset.split(split)]


def duplicate_problems(case: Case, image: np.ndarray, holders: dict[str, Case]) -> list[str]:
    """The same pixels under two ids in different splits are a leak."""
    other = holders.setdefault(hash_pixels(image), case)
    if other is case or other.split == case.split:
        return []
    return [f"{case.id} ({case.split}) and {other.id} ({other.split}) are the same image"]


def describe_dataset(dataset: Dataset, seen: Seen) -> dict[str, object]:
    """The closing table of a data set."""
    known = seen.pixels[: len(dataset.classes)]
    hashes = [sha256 for case in dataset.cases.values() for sha256 in case.files().values()]
    return {
        "cases": len(dataset.cases),
        "splits": {split: len(dataset.split(split)) for split in SPLITS},
        "groups": len({case.group for case in dataset.cases.values()}),
        "image_sizes": {f"{w} x {h}": count for (h, w), count in seen.sizes.most_common(5)},
        "class_pixel_share": {name: float(n) / max(int(known.sum()), 1) for name, n in zip(dataset.classes, known, strict=True)},
        "ignored_pixel_share": float(seen.pixels[IGNORE]) / max(int(seen.pixels.sum()), 1),
        "files": {"compared": len(hashes) - hashes.count(None), "without_hash": hashes.count(None)},
    }
