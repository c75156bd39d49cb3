"""Corrected masks: what comes back of the cases that `samsemi mine --review` wrote, by whom and when. Needs no torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np

from samsemi.data.dataset import IGNORE, Dataset, decode_case_label, hash_bytes
from samsemi.data.files import find_images
from samsemi.data.images import read_bytes
from samsemi.data.layouts.coco import Table, read_objects, read_table, size_of
from samsemi.data.layouts.drawn import draw_on
from samsemi.errors import DataError
from samsemi.inputs import hash_file, read_rows
from samsemi.outputs import write_rows
from samsemi.schemas import from_json, need_schema, read_object

SCHEMA = "samsemi.review/1"
ABOUT = "review.json"
AGAIN = "give the folder that `samsemi mine --review` wrote"
RECORD = "corrections.csv"
"""In a data set: who has corrected which of its masks, and when."""
COLUMNS = ("id", "by", "at", "as_proposed", "store_content")


@dataclass(frozen=True)
class Review:
    """review.json: of which data set and store the cases are, and the SHA-256 of what was proposed: the mask of each, and all as COCO."""

    dataset: str
    store_content: str
    classes: tuple[str, ...]
    proposed: Mapping[str, str]
    coco: str = ""
    """Empty in reviews of before."""


@dataclass(frozen=True, eq=False)
class Correction:
    """A mask that came back."""

    id: str
    label: np.ndarray
    """(H, W) uint8 class indices and IGNORE."""
    changed: bool
    """False where it is as proposed: confirmed, or not looked at."""
    at: str
    """When its file was written last: UTC, ISO 8601, whole seconds."""


def read_review(folder: Path, dataset: Dataset) -> Review:
    """What review.json says; DataError where the folder is no review of this data set, or names a case that it has not."""
    if not (folder / ABOUT).is_file():
        raise DataError(f"{folder}: no {ABOUT} there", AGAIN)
    about = read_object(folder / ABOUT, AGAIN)
    need_schema(about.pop("schema", None), SCHEMA, str(folder / ABOUT), "a review", AGAIN)
    review = from_json(Review, about, str(folder / ABOUT), AGAIN)
    if review.classes != dataset.classes or review.dataset != dataset.fingerprint():
        raise DataError(f"{folder} is a review of another data set than {dataset.folder}", "give the data set that was mined")
    for name in review.proposed:
        if name not in dataset.cases or dataset.cases[name].split != "unlabeled":
            raise DataError(f"{folder / ABOUT}: {dataset.folder} has no unlabeled case {name:.60}", AGAIN)
    return review


def read_corrections(folder: Path, review: Review, dataset: Dataset, masks: Path | None = None) -> list[Correction]:
    """The masks of a review that came back: corrected in its folder, or in ``masks``, a folder of pictures called ID or a file of COCO,
    which may hold some of them alone. DataError for a mask that is none of the data set's classes, and for one of another case."""
    if masks is None:
        return list(corrected_in_place(folder, review, dataset))
    if masks.is_dir():
        return list(corrected_elsewhere(folder, review, dataset, masks))
    return list(corrected_by_outlines(folder, review, dataset, masks))


def corrected_in_place(folder: Path, review: Review, dataset: Dataset) -> Iterator[Correction]:
    """The masks of the review itself; changed are those that are not byte by byte what was written."""
    for name, proposed in review.proposed.items():
        path = folder / "masks" / f"{name}.png"
        label, found = read_mask(path, name, dataset)
        yield Correction(name, label, found != proposed, written_at(path))


def corrected_elsewhere(folder: Path, review: Review, dataset: Dataset, masks: Path) -> Iterator[Correction]:
    """Masks in another folder; changed are those with other pixels than the review's, or where the review's own was corrected."""
    files = find_images(masks)
    refuse_unknown(files, review, str(masks))
    for name, path in files.items():
        (before, own), (label, _) = (read_mask(one, name, dataset) for one in (folder / "masks" / f"{name}.png", path))
        yield Correction(name, label, own != review.proposed[name] or not np.array_equal(before, label), written_at(path))


def corrected_by_outlines(folder: Path, review: Review, dataset: Dataset, file: Path) -> Iterator[Correction]:
    """The images that a file of COCO lists; changed are those whose objects, drawn, differ from those of the review's own file."""
    own = folder / "coco.json"
    before, after = (draw_table(read_table(path), folder, review, dataset) for path in (own, file))
    if review.coco and hash_file(own) != review.coco:
        raise DataError(
            f"{own} is not the one that was written, which tells what was corrected",
            "write the review anew with `samsemi mine --resume --review` and another folder, and give what you have corrected as --masks",
        )
    at = written_at(file)
    for name, label in after.items():
        yield Correction(name, label, name not in before or not np.array_equal(before[name], label), at)


def draw_table(table: Table, folder: Path, review: Review, dataset: Dataset) -> dict[str, np.ndarray]:
    """The mask of each image of a file of COCO by its id; DataError for a class or an image that the review has not."""
    index = {name: k for k, name in enumerate(dataset.classes)}
    unknown = next((name for name in table.used() if name not in index), None)
    if unknown is not None:
        raise DataError(f"{table.path}: objects of class {unknown:.60}", f"the data set has {', '.join(dataset.classes[1:])}")
    objects = read_objects(table, index)
    numbers = {PurePosixPath(str(row.get("file_name")).replace("\\", "/")).stem: number for number, row in table.images.items()}
    refuse_unknown(numbers, review, str(table.path))
    if len(numbers) < len(table.images):
        raise DataError(f"{table.path}: {len(table.images)} images of {len(numbers)} names", "list each case of the review once")
    sizes = {number: size_of(row, table.path) for number, row in table.images.items()}
    return {
        name: draw_on(folder / "images" / f"{name}.png", table.path, objects.get(number, ()), sizes[number]).read()
        for name, number in numbers.items()
    }


def read_mask(path: Path, name: str, dataset: Dataset) -> tuple[np.ndarray, str]:
    """The mask of a case in a file, and the file's SHA-256; DataError for values that are no classes, such as objects drawn in white."""
    data = read_bytes(path)
    label = decode_case_label(dataset.cases[name], path, data, len(dataset.classes))
    if np.array_equal(np.unique(label), (0, IGNORE)):
        raise DataError(f"{path}: 0 and {IGNORE}, which means ignored: no class is shown", "write class indices (1 for 255)")
    return label, hash_bytes(data)


def refuse_unknown(names: Iterable[str], review: Review, where: str) -> None:
    """DataError for a mask of a case that was not to be reviewed."""
    unknown = next((name for name in names if name not in review.proposed), None)
    if unknown is not None:
        raise DataError(f"{where}: {unknown:.60} is no case of the review", "give masks of its cases alone, named like them")


def written_at(path: Path) -> str:
    """When a file was written last; some file systems keep times that no calendar has: then now."""
    try:
        return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return now()


def now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def read_record(folder: Path) -> list[dict[str, str]]:
    """The rows of corrections.csv of a data set, none where it has none; DataError for what is no such table."""
    path = folder / RECORD
    if not path.exists():
        return []
    try:
        rows = read_rows(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})", "restore it, or remove it: it says who has corrected which mask") from None
    if any(set(row) != set(COLUMNS) or None in row.values() for row in rows):
        raise DataError(f"{path} needs the columns {','.join(COLUMNS)} in every line", "restore it, or remove it")
    return rows


def write_record(folder: Path, earlier: Sequence[dict[str, str]], corrections: Sequence[Correction], by: str, store_content: str) -> None:
    """Write corrections.csv: the rows of earlier corrections, and one for each of these; what is as proposed is confirmed now."""
    confirmed = now()
    rows = [[one.id, by, *((one.at, "") if one.changed else (confirmed, "yes")), store_content] for one in corrections]
    write_rows(folder / RECORD, [COLUMNS, *([row[column] for column in COLUMNS] for row in earlier), *rows])
