"""The data set folder: dataset.json, manifest.csv, and how its images and masks are read. Knows nothing of torch."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samsemi.data.about import COPIED, SCHEMA, read_about
from samsemi.data.images import decode_image, decode_label, read_bytes, read_readable
from samsemi.data.leaks import leaks, splits_by_group
from samsemi.data.manifest import Case, read_manifest, write_manifest
from samsemi.errors import ChangedFile, CheckpointError, DataError, WrongValues
from samsemi.inputs import read_rows
from samsemi.schemas import read_object

log = logging.getLogger("samsemi")

IGNORE = 255
"""Mask value of pixels whose class is not known: no loss, no metric."""

NO_CLASS_BUT_255 = "0 and 255, as every mask that was read; in a data set 255 means ignored, so there is nothing to learn or measure"
PREPARE_CONVERTS = "write class indices (1 for 255), or let `samsemi prepare` convert the masks"

PREPARE_SOME = {
    "labeled": "prepare the data set with masks for more images, or smaller --val and --test",
    "unlabeled": "prepare the data set with images that have no mask; --labeled 0.1 of `samsemi prepare` hides masks to simulate some",
    "val": "prepare the data set with --val above 0",
    "test": "prepare the data set with --test above 0; `samsemi eval --split val` measures others",
}
"""What to do where a split is empty."""


@dataclass(frozen=True)
class Dataset:
    folder: Path
    name: str
    classes: tuple[str, ...]
    """Class names, the first is the background."""
    spacing_mm: float | None
    cases: dict[str, Case]
    window: str | None = None
    """As ``prepare --window`` was told, where images were shown by one: of volumes, DICOM and arrays."""

    def split(self, name: str) -> list[Case]:
        """The cases of one split, in the order of the manifest."""
        return [case for case in self.cases.values() if case.split == name]

    def fingerprint(self) -> str:
        """SHA-256 of everything that training and mining may depend on: names, classes, splits, images and masks where their
        hashes are known; not of hidden truth."""
        rows = [(case.id, case.split, case.group, *filter(None, (case.image_sha256, case.mask_sha256))) for case in self.cases.values()]
        return hashlib.sha256(json.dumps([self.name, self.classes, self.spacing_mm, rows]).encode()).hexdigest()

    def made_from(self) -> dict[str, object]:
        """What whoever learns from it notes of it."""
        return {"dataset": self.fingerprint(), **({"window": self.window} if self.window else {})}


def name_images(cases: Iterable[Case]) -> dict[str, str | None]:
    """By which the images of some cases are known in any data set: their ids, and their SHA-256 where that is known."""
    return {case.id: case.image_sha256 for case in cases}


def is_among(case: Case, images: Mapping[str, str | None]) -> bool:
    """Whether the image of a case is one of those of ``name_images``: has the hash of one, or its id where either hash is not known."""
    if case.image_sha256 is not None and case.image_sha256 in images.values():
        return True
    return case.id in images and None in (case.image_sha256, images[case.id])


def read_dataset(folder: Path) -> Dataset:
    """Read a data set folder; DataError for what is missing or malformed. Images and masks are not opened."""
    dataset, problems = scan_dataset(folder)
    if len(problems) == 1:
        raise problems[0]
    where = str(dataset.folder / "manifest.csv")
    complain(where, [error.message for error in problems], "repair these lines, or prepare the data set again")
    return dataset


def scan_dataset(folder: Path) -> tuple[Dataset, list[DataError]]:
    """``read_dataset`` without the lines of the manifest that cannot be, and what is wrong with each of them."""
    folder = Path(folder)
    if folder.is_file():
        raise DataError(f"{folder} is a file, a data set is a folder", f"give the folder that `samsemi prepare` made: {folder.parent}?")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data set", "make it with `samsemi prepare`")
    for path in (folder / "dataset.json", folder / "manifest.csv"):
        if not path.exists():
            raise DataError(f"{path} is missing: {folder} is not a data set", "make one with `samsemi prepare`")
    try:
        about = read_object(folder / "dataset.json")
        rows = read_rows(folder / "manifest.csv")
    except CheckpointError as error:
        raise DataError(error.message, "repair it, or prepare the data set again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}/manifest.csv cannot be read ({error})", "prepare the data set again") from None
    name, classes, spacing_mm, window = read_about(about, str(folder / "dataset.json"))
    cases, problems = read_manifest(folder, rows)
    return Dataset(folder, name, classes, spacing_mm, cases, window), problems


def is_dataset(folder: Path) -> bool:
    """Whether a folder has the files of a data set."""
    return all((Path(folder) / name).is_file() for name in ("dataset.json", "manifest.csv"))


def need_cases(dataset: Dataset, split: str) -> list[Case]:
    """The cases of a split; DataError where there are none, where their masks are black and white instead of class indices, and where a
    group of the data set is seen before it measures."""
    cases = dataset.split(split)
    if not cases:
        raise DataError(f"{dataset.folder}: no {split} cases", PREPARE_SOME[split])
    refuse_leaks(dataset)
    refuse_black_and_white(dataset, cases)
    return cases


def refuse_leaks(dataset: Dataset) -> None:
    """DataError where a group stands in a split that measures and in one that is seen before it."""
    for group, splits in splits_by_group((case.group, case.split) for case in dataset.cases.values()).items():
        if leaks(splits):
            raise DataError(
                f"{dataset.folder}: group {group} stands in {' and '.join(sorted(splits))}: what measures would be known",
                "put the whole group into one split; `samsemi check` names every such group",
            )


def refuse_black_and_white(dataset: Dataset, cases: Sequence[Case]) -> None:
    """DataError where no mask holds a class but some hold 255: masks of 0/255 would be ignored wherever there is an object.

    Reads masks until one holds a class. Those that cannot be read are left to whoever reads them all; hidden truth is not opened.
    """
    white = None
    for case in cases:
        with suppress(DataError):
            label = decode_case_label(case, case.mask, read_bytes(case.mask), len(dataset.classes)) if case.mask else np.zeros(1)
            if ((label > 0) & (label != IGNORE)).any():
                return
            white = white or ((label == IGNORE).any() and case)
    if white:
        raise DataError(f"{white.mask}: {NO_CLASS_BUT_255}", PREPARE_CONVERTS)


def write_dataset(dataset: Dataset, copied: bool = False) -> None:
    """Write dataset.json and manifest.csv; paths inside the folder become relative. ``copied`` notes that the images in it are copies."""
    about: dict[str, object] = {"schema": SCHEMA, "name": dataset.name, "classes": list(dataset.classes), "spacing_mm": dataset.spacing_mm}
    about |= {"window": dataset.window} if dataset.window else {}
    about |= {"images": COPIED} if copied else {}
    (dataset.folder / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    write_manifest(dataset.folder, dataset.cases.values())


def read_case_image(case: Case) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a case; ChangedFile where it is not the file that was prepared."""
    data = read_bytes(case.image)
    image = decode_image(data, case.image)
    refuse_changed(case, case.image, data)
    return image


def read_case_images(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """The images of some cases by id; those that cannot be read are left out, each with a warning. ChangedFile as for one."""
    return read_readable({case.id: case for case in cases}, read_case_image)[0]


def read_case_label(case: Case, path: Path | None, num_classes: int) -> np.ndarray:
    """(H, W) uint8 class indices and IGNORE of a case's mask or truth, or of a prediction for it; DataError for any other value and
    where the case has none, ChangedFile where a mask or truth is not the file that was prepared."""
    if path is None:
        raise DataError(f"case {case.id} has no mask", "take cases that have one")
    data = read_bytes(path)
    label = decode_case_label(case, path, data, num_classes)
    refuse_changed(case, path, data)
    return label


def decode_case_label(case: Case, path: Path, data: bytes, num_classes: int) -> np.ndarray:
    """``read_case_label`` from the bytes of the file, whether it changed or not."""
    label = decode_label(data, path)
    wrong = [int(v) for v in np.unique(label) if v >= num_classes and v != IGNORE]
    if wrong:
        raise WrongValues(
            f"values {wrong[:8]} in the mask of case {case.id}",
            f"classes are 0..{num_classes - 1}, {IGNORE} is ignored; `samsemi prepare` converts 0/255 masks",
        )
    return label


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def changed_problems(case: Case, path: Path, data: bytes) -> list[str]:
    """One line where the bytes of a case's file are not those that were prepared."""
    recorded = case.files().get(path)
    if recorded is None or recorded == hash_bytes(data):
        return []
    return [f"case {case.id}: {path} has changed since the data set was prepared"]


def refuse_changed(case: Case, path: Path, data: bytes) -> None:
    """ChangedFile where the bytes of a case's file are not those that were prepared."""
    for problem in changed_problems(case, path, data):
        raise ChangedFile(problem, "restore the file, or prepare the data set again and make anew what came from it")


def refuse_changed_files(cases: Iterable[Case]) -> None:
    """ChangedFile where an image or mask is not what was prepared, without decoding it; hidden truth and missing files are left out."""
    for case in cases:
        for path in filter(Path.is_file, filter(None, (case.image, case.mask))):
            refuse_changed(case, path, read_bytes(path))


def with_hashes(case: Case) -> Case:
    """The case with the SHA-256 of its files as they are now; a file that cannot be read has none."""
    image, mask, truth = (hash_readable(path) if path else None for path in (case.image, case.mask, case.truth))
    return replace(case, image_sha256=image, mask_sha256=mask, truth_sha256=truth)


def hash_image(case: Case) -> str:
    """SHA-256 of the file of a case's image: that of the manifest, which reading it compares, or, without, as it is now."""
    return case.image_sha256 or hash_bytes(read_bytes(case.image))


def hash_readable(path: Path) -> str | None:
    try:
        return hash_bytes(read_bytes(path))
    except DataError:
        return None


def complain(where: str, problems: Sequence[str], hint: str) -> None:
    """Name problems one by one and raise DataError if there are any."""
    if not problems:
        return
    for problem in problems:
        log.warning("%s", problem)
    first = problems[0] if len(problems) == 1 else f"{len(problems)} problems, the first: {problems[0]}"
    raise DataError(f"{where}: {first}", hint)
