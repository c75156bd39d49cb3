"""The data set folder: dataset.json, manifest.csv, and what is checked before any computing. Knows nothing of torch."""

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from samsemi import console
from samsemi.data.images import hash_pixels, read_image, read_label
from samsemi.errors import DataError, SamsemiError

SPLITS = ("labeled", "unlabeled", "val", "test")

IGNORE = 255
"""Mask value of pixels that nobody vouches for: no loss, no metric."""

COLUMNS = ["id", "image", "mask", "truth", "split", "group"]


@dataclass(frozen=True)
class Case:
    """One image. ``mask`` is for training and measuring; ``truth`` is the hidden mask of an unlabeled case."""

    id: str
    image: Path
    mask: Path | None
    truth: Path | None
    split: str
    group: str


@dataclass(frozen=True)
class Dataset:
    folder: Path
    name: str
    classes: tuple[str, ...]
    """Class names, the first is the background."""
    spacing_mm: float | None
    cases: dict[str, Case]

    def split(self, name: str) -> list[Case]:
        """The cases of one split, in the order of the manifest."""
        return [case for case in self.cases.values() if case.split == name]

    def fingerprint(self) -> str:
        """SHA-256 of everything that training and mining may depend on: names, classes, splits; not of hidden truth."""
        rows = [(case.id, case.split, case.group) for case in self.cases.values()]
        return hashlib.sha256(json.dumps([self.name, self.classes, self.spacing_mm, rows]).encode()).hexdigest()


def read_dataset(folder: Path) -> Dataset:
    """Read a data set folder; DataError for what is missing or malformed. Images and masks are not opened."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data set", "make it with `samsemi prepare`")
    try:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        with open(folder / "manifest.csv", newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is missing: {folder} is not a data set", "make one with `samsemi prepare`") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{folder}/dataset.json or manifest.csv cannot be read ({error!r})", "prepare the data set again") from None
    name, classes, spacing_mm = read_about(about, str(folder / "dataset.json"))
    if not rows or set(COLUMNS) - set(rows[0]):
        raise DataError(f"{folder}/manifest.csv needs rows, and the columns {','.join(COLUMNS)}", "prepare the data set again")
    cases: dict[str, Case] = {}
    problems = []
    for line, row in enumerate(rows, start=2):
        try:
            case = read_case(folder, row, line)
            if case.id in cases:
                raise DataError(f"{folder}/manifest.csv line {line}: id '{case.id}' stands there twice", "remove one")
            cases[case.id] = case
        except DataError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    complain(str(folder / "manifest.csv"), [error.message for error in problems])
    return Dataset(folder, name, classes, spacing_mm, cases)


def read_about(about: object, where: str) -> tuple[str, tuple[str, ...], float | None]:
    """Name, classes and spacing of a dataset.json; DataError where they cannot be."""
    classes = about.get("classes") if isinstance(about, dict) else None
    if not isinstance(classes, list) or len(set(map(str, classes))) < 2 or not all(isinstance(c, str) and c for c in classes):
        raise DataError(f"{where}: classes must be a list of two names or more, the first the background", "mend it, or prepare again")
    if len(set(classes)) < len(classes):
        raise DataError(f"{where}: a class is named twice", "give each class a name of its own")
    spacing = about.get("spacing_mm")
    if spacing is not None and (isinstance(spacing, bool) or not isinstance(spacing, (int, float)) or not 0 < spacing < float("inf")):
        raise DataError(f"{where}: spacing_mm {spacing!r} is no size of a pixel", "give millimeters, or null")
    return str(about.get("name", "")), tuple(classes), spacing


def need_cases(dataset: Dataset, split: str) -> list[Case]:
    """The cases of a split; DataError where there are none."""
    cases = dataset.split(split)
    if not cases:
        raise DataError(f"{dataset.folder}: no {split} cases", f"prepare the data set with some {split} cases")
    return cases


def read_case(folder: Path, row: dict[str, str], line: int) -> Case:
    """One row of a manifest; DataError for an id, split or path that cannot be."""
    where = f"{folder}/manifest.csv line {line}"
    if not is_safe_id(row["id"] or ""):
        raise DataError(f"{where}: id {row['id']!r} cannot be a file name", "use letters, digits, '_', '-', '.' and blanks")
    if row["split"] not in SPLITS:
        raise DataError(f"{where}: unknown split '{row['split']}'", f"use {', '.join(SPLITS)}")
    if not row["image"]:
        raise DataError(f"{where}: no image", "prepare the data set again")
    if row["split"] == "unlabeled" and row["mask"]:
        raise DataError(f"{where}: an unlabeled case has a mask", "move it to the column truth, or change the split")
    if row["split"] != "unlabeled" and not row["mask"]:
        raise DataError(f"{where}: a {row['split']} case has no mask", "give one, or change the split to unlabeled")
    paths = [resolve(folder, row[column], where) for column in ("image", "mask", "truth")]
    return Case(row["id"], *paths, split=row["split"], group=row["group"] or row["id"])


def is_safe_id(text: str) -> bool:
    """True for an id that is one plain file name everywhere."""
    return bool(text) and not text.startswith(".") and not any(c in '/\\:*?"<>|' or ord(c) < 32 for c in text)


def resolve(folder: Path, text: str, where: str) -> Path | None:
    """A path of the manifest: absolute, or inside the data set folder; DataError for one that leads out of it."""
    if not text:
        return None
    path = Path(text)
    if ".." in path.parts:
        raise DataError(f"{where}: {text} leads out of the data set", "write paths relative to the data set folder, or absolute")
    return path if path.is_absolute() else folder / path


def write_dataset(dataset: Dataset) -> None:
    """Write dataset.json and manifest.csv; paths inside the folder become relative."""
    about = {"name": dataset.name, "classes": list(dataset.classes), "spacing_mm": dataset.spacing_mm}
    (dataset.folder / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with open(dataset.folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for case in dataset.cases.values():
            writer.writerow([relative_to(dataset.folder, value) for value in astuple(case)])


def relative_to(folder: Path, value: str | Path | None) -> str:
    if isinstance(value, Path):
        return str(value.relative_to(folder)) if value.is_relative_to(folder) else str(value.resolve())
    return value or ""


def read_case_label(case: Case, path: Path, num_classes: int) -> np.ndarray:
    """(H, W) uint8 class indices and IGNORE of a case's mask or truth; DataError for any other value."""
    label = read_label(path)
    wrong = [int(v) for v in np.unique(label) if v >= num_classes and v != IGNORE]
    if wrong:
        raise DataError(
            f"values {wrong[:8]} in the mask of case {case.id}",
            f"classes are 0..{num_classes - 1}, {IGNORE} is ignored; `samsemi prepare` converts 0/255 masks",
        )
    return label


def verify(dataset: Dataset, advance=lambda n=1: None) -> tuple[list[str], dict[str, object]]:
    """Open every file of a data set: (all problems, one line each; what was found)."""
    problems: list[str] = split_problems(dataset)
    seen: dict[str, Case] = {}
    sizes: Counter = Counter()
    pixels = np.zeros(256, dtype=np.int64)
    for case in dataset.cases.values():
        try:
            image = read_image(case.image)
            sizes[image.shape[:2]] += 1
            problems += duplicate_problems(case, image, seen)
            for path in filter(None, (case.mask, case.truth)):
                label = read_case_label(case, path, len(dataset.classes))
                pixels += np.bincount(label.ravel(), minlength=256)
                if label.shape != image.shape[:2]:
                    problems.append(
                        f"mask of case {case.id}: {label.shape[1]} x {label.shape[0]} pixels, "
                        f"image {case.image.name} has {image.shape[1]} x {image.shape[0]}"
                    )
        except SamsemiError as error:
            problems.append(error.message)
        advance()
    return problems, describe(dataset, sizes, pixels)


def complain(where: str, problems: list[str]) -> None:
    """Name problems one by one and raise DataError if there are any."""
    if not problems:
        return
    for problem in problems:
        console.warn(problem)
    first = problems[0] if len(problems) == 1 else f"{len(problems)} problems, the first: {problems[0]}"
    raise DataError(f"{where}: {first}", "mend or remove these files, then run it again")


def split_problems(dataset: Dataset) -> list[str]:
    """Groups that stand in more than one split, and splits that training cannot do without."""
    splits_of = defaultdict(set)
    for case in dataset.cases.values():
        splits_of[case.group].add(case.split)
    problems = [f"group {group} stands in {' and '.join(sorted(splits))}" for group, splits in splits_of.items() if len(splits) > 1]
    return problems + [f"no {split} cases" for split in ("labeled", "val") if not dataset.split(split)]


def duplicate_problems(case: Case, image: np.ndarray, seen: dict[str, Case]) -> list[str]:
    """The same pixels under two ids in different splits are a leak."""
    other = seen.setdefault(hash_pixels(image), case)
    if other is case or other.split == case.split:
        return []
    return [f"{case.id} ({case.split}) and {other.id} ({other.split}) are the same image"]


def describe(dataset: Dataset, sizes: Counter, pixels: np.ndarray) -> dict[str, object]:
    known = pixels[: len(dataset.classes)]
    return {
        "cases": len(dataset.cases),
        "splits": {split: len(dataset.split(split)) for split in SPLITS},
        "groups": len({case.group for case in dataset.cases.values()}),
        "image_sizes": {f"{w} x {h}": count for (h, w), count in sizes.most_common(5)},
        "class_pixel_share": {name: float(n) / max(int(known.sum()), 1) for name, n in zip(dataset.classes, known, strict=True)},
        "ignored_pixel_share": float(pixels[IGNORE]) / max(int(pixels.sum()), 1),
    }


def join_duplicates(cases: Sequence[Case], advance=lambda n=1: None) -> tuple[list[Case], int]:
    """Cases whose groups are joined where they hold the same pixels, so that no split sees another's image; and the number of
    images that came before.

    Images that cannot be read are left for ``verify`` to name.
    """
    holder: dict[str, str] = {}
    leader: dict[str, str] = {}
    duplicates = 0

    def find(group: str) -> str:
        while group in leader:
            group = leader[group]
        return group

    for case in cases:
        with suppress(DataError):
            pixels = hash_pixels(read_image(case.image))
            duplicates += pixels in holder
            group, first = find(case.group), find(holder.setdefault(pixels, case.group))
            if group != first:
                leader[group] = first
        advance()
    return [replace(case, group=find(case.group)) for case in cases], duplicates


def assign_splits(cases: Iterable[Case], wanted: dict[str, float], seed: int) -> list[Case]:
    """Deal whole groups of masked cases to splits: ``wanted`` is the share (or, above 1, the number) of cases per split.

    What is left over, and every case without a mask, becomes unlabeled, its mask hidden in ``truth``. DataError where
    a wanted split stays empty.
    """
    cases = list(cases)
    masked = [case for case in cases if case.mask is not None]
    groups = sorted({case.group for case in masked} - {case.group for case in cases if case.mask is None})
    members = Counter(case.group for case in masked)
    queue = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    targets = {split: amount if amount > 1 else amount * len(masked) for split, amount in wanted.items()}
    if sum(targets.values()) > len(masked) + 0.5:
        raise DataError(
            f"{' + '.join(f'--{split} {amount:g}' for split, amount in wanted.items())} is more than the {len(masked)} cases with masks",
            "ask for less",
        )
    split_of: dict[str, str] = {}
    for split, target in targets.items():
        taken = 0
        while queue and taken + members[queue[0]] / 2 <= target and taken < target:
            taken += members[queue[0]]
            split_of[queue.pop(0)] = split
        if target > 0 and taken == 0 and queue:
            taken = members[queue[0]]
            split_of[queue.pop(0)] = split
        if target > 0 and taken < target / 2:
            raise DataError(
                f"{len(masked)} cases with masks in {len(groups)} groups do not fill --{split} {wanted[split]:g}",
                "ask for smaller shares, or bring more cases with masks",
            )
    return [with_split(case, split_of.get(case.group, "unlabeled")) for case in cases]


def with_split(case: Case, split: str) -> Case:
    """The case in a split; an unlabeled case's mask is hidden in ``truth``."""
    known = case.mask or case.truth
    if split == "unlabeled":
        return replace(case, split=split, mask=None, truth=known)
    return replace(case, split=split, mask=known, truth=None)
