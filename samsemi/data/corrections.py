"""Corrected masks: what comes back of the cases that `samsemi mine --review` wrote, by whom and when. Needs no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from samsemi.data.dataset import Dataset, decode_case_label, hash_bytes
from samsemi.data.images import read_bytes
from samsemi.errors import DataError
from samsemi.schemas import from_json, need_schema, read_object

SCHEMA = "samsemi.review/1"
ABOUT = "review.json"
AGAIN = "give the folder that `samsemi mine --review` wrote"


@dataclass(frozen=True)
class Review:
    """review.json: of which data set and store the cases are, and the SHA-256 of the mask that was proposed for each."""

    dataset: str
    store_content: str
    classes: tuple[str, ...]
    proposed: Mapping[str, str]


@dataclass(frozen=True)
class Correction:
    """A mask that somebody has looked at."""

    id: str
    mask: Path
    sha256: str
    changed: bool
    """False where it is the proposal, byte by byte: confirmed, or not looked at."""
    by: str
    at: str
    """When the file was written last: UTC, ISO 8601, whole seconds."""


def read_corrections(folder: Path, dataset: Dataset, by: str) -> list[Correction]:
    """The masks of a review folder, each with who answers for it and when it was written.

    DataError where the folder is no review of this data set, where a mask is missing, or holds what is no class.
    """
    if not (folder / ABOUT).is_file():
        raise DataError(f"{folder}: no {ABOUT} there", AGAIN)
    about = read_object(folder / ABOUT, AGAIN)
    need_schema(about.pop("schema", None), SCHEMA, str(folder / ABOUT), "a review", AGAIN)
    review = from_json(Review, about, str(folder / ABOUT), AGAIN)
    if review.classes != dataset.classes or review.dataset != dataset.fingerprint():
        raise DataError(f"{folder} is a review of another data set than {dataset.folder}", "give the data set that was mined")
    return [read_correction(folder, name, sha256, dataset, by) for name, sha256 in review.proposed.items()]


def read_correction(folder: Path, name: str, proposed: str, dataset: Dataset, by: str) -> Correction:
    if name not in dataset.cases:
        raise DataError(f"{folder / ABOUT}: {dataset.folder} has no case {name:.60}", AGAIN)
    path = folder / "masks" / f"{name}.png"
    data = read_bytes(path)
    decode_case_label(dataset.cases[name], path, data, len(dataset.classes))
    written = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
    return Correction(name, path, hash_bytes(data), hash_bytes(data) != proposed, by, written)


def with_corrections(dataset: Dataset, corrections: Iterable[Correction]) -> Dataset:
    """The data set in which corrected cases are labeled, with these masks; their hidden truth, where they have some, stays out of it."""
    cases = dict(dataset.cases)
    for one in corrections:
        labeled = {"split": "labeled", "mask": one.mask, "mask_sha256": one.sha256, "truth": None, "truth_sha256": None}
        cases[one.id] = replace(cases[one.id], **labeled)  # type: ignore[arg-type]
    return replace(dataset, cases=cases)
