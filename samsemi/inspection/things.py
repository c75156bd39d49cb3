"""What a path is, from what it was made, how much and how good it is: from headers and tables alone. Needs no torch."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samsemi.errors import CheckpointError, DataError, SamsemiError
from samsemi.inspection.exported import describe_exported, is_exported
from samsemi.inspection.folders import describe_dataset, describe_evaluation, describe_labels, describe_predictions
from samsemi.inspection.made import KINDS, Facts
from samsemi.inspection.runs import MODEL_WEIGHTS, NAMES, describe_run, is_adapt_run, is_run
from samsemi.inspection.stores import describe_hdf5, describe_parts, is_hdf5, parts_of
from samsemi.inspection.weights import describe_adapt_run, describe_weights
from samsemi.training.runs import LAST, STATE

DEPTH = 3
"""Folders within each other in which things are looked for."""
SUFFIXES = (".h5", ".hdf5", ".safetensors", ".onnx")
"""Of files that are looked at in a folder."""
NEVER_ALONE = (MODEL_WEIGHTS, STATE.name)
"""Weights that are known by the run that they stand in."""
DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ArithmeticError, csv.Error)
"""What reading may raise where bytes or values are not what their place promises."""


@dataclass(frozen=True)
class ThingKind:
    """Things of one kind: how they are known, and what describes them."""

    fits: Callable[[Path], bool]
    describe: Callable[[Path], Facts]


def has(name: str) -> Callable[[Path], bool]:
    """Whether a path is a folder with a file of this name."""
    return lambda path: (path / name).is_file()


FOLDERS = (
    ThingKind(has("manifest.csv"), describe_dataset),
    ThingKind(has("dataset.json"), describe_dataset),
    ThingKind(is_adapt_run, describe_adapt_run),
    ThingKind(is_run, describe_run),
    ThingKind(has("metrics.json"), describe_evaluation),
    ThingKind(has("predictions.json"), describe_predictions),
    ThingKind(has("labels.json"), describe_labels),
)
PARTS = ThingKind(lambda path: bool(parts_of(path)) and not path.is_file(), describe_parts)
FILES = (
    ThingKind(is_hdf5, describe_hdf5),
    ThingKind(lambda path: path.suffix == ".safetensors" and path.is_file(), describe_weights),
    ThingKind(is_exported, describe_exported),
)


def inspect(path: Path) -> Facts:
    """What there is to know of a thing; of a folder that is none, of the things in it. DataError where there is nothing to know."""
    try:
        place = find_place(path)
        kind = find_kind(place)
        if kind:
            return {"path": str(path), **describe(kind, place)}
        path.lstat()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder", "check the path") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "check the path and its permissions") from None
    things = list_things(path, DEPTH) if path.is_dir() else []
    if not things:
        hint = "give a data set, a run, a store, SAM weights (.safetensors), or a folder that holds some"
        raise DataError(f"{path} is nothing that samsemi makes", hint)
    return {"path": str(path), "kind": "folder", "things": things}


def find_place(path: Path) -> Path:
    """The thing that a path leads to: a file in a run, a data set or among the parts of a store stands for the whole."""
    if path.is_dir() or not path.exists():
        runs = path.with_suffix(".run") if path.suffix == ".safetensors" else path
        return runs if runs.is_dir() else path
    above = path.parent.parent if path.parent.name == LAST.name else path.parent
    if above.name.endswith(".parts"):
        return above
    alone = any(safely(kind.fits, path) for kind in FILES) and path.name not in NEVER_ALONE
    return above if not alone and any(safely(kind.fits, above) for kind in FOLDERS) else path


def find_kind(place: Path) -> ThingKind | None:
    """What a thing is; None for one that is not known."""
    kinds = (PARTS, *FOLDERS) if place.is_dir() else (PARTS, *FILES)
    return next((kind for kind in kinds if safely(kind.fits, place)), None)


def safely(fits: Callable[[Path], bool], place: Path) -> bool:
    """Whether a thing is of a kind; not where its files are too damaged to tell."""
    try:
        return fits(place)
    except DAMAGE:
        return False


def describe(kind: ThingKind, place: Path) -> Facts:
    """What is known of a thing; CheckpointError, or of a data set DataError, where it is damaged."""
    try:
        return kind.describe(place)
    except DAMAGE as error:
        failure = DataError if kind.describe is describe_dataset else CheckpointError
        raise failure(f"{place} is damaged, or in use ({error!r})", "make it again, or take a copy that is whole") from None


def list_things(folder: Path, depth: int) -> list[Facts]:
    """The things in a folder and in the folders below it, a few of their facts each; what is damaged is among them, with the reason."""
    things = []
    for path in sorted(visible(folder)):
        kind = find_kind(path)
        if kind:
            things.append({"path": str(path), **brief(kind, path)})
        elif path.is_dir() and depth > 1:
            things += list_things(path, depth - 1)
    return things


def visible(folder: Path) -> Iterator[Path]:
    """The folders in a folder, and files that may be things; not hidden ones, runs next to their weights, nor what may not be read."""
    try:
        for path in folder.iterdir():
            named = not path.name.startswith(".") and (path.suffix in SUFFIXES or path.is_dir())
            if named and not (path.suffix == ".run" and path.with_suffix(".safetensors").is_file()):
                yield path
    except OSError:
        return


def brief(kind: ThingKind, path: Path) -> Facts:
    """Kind and summary of a thing, or what is wrong with it."""
    try:
        facts = describe(kind, path)
    except SamsemiError as error:
        return {"kind": "damaged", "summary": error.message}
    return {"kind": facts["kind"], "finished": facts.get("finished"), "summary": summarize(facts)}


def summarize(facts: Facts) -> str:
    """A thing in one line."""
    parts = [name_thing(facts)]
    if facts.get("finished") is False:
        parts[0] += ", unfinished"
    parts += [f"{facts[name]} {name}" for name in ("images", "objects", "accepted", "cases") if name in facts]
    scores: dict[str, Any] = dict(facts.get("scores") or {})  # type: ignore[call-overload]
    parts += [f"{name} {scores[name]:.3f}" for name in ("val_dice", "val_iou", "dice") if isinstance(scores.get(name), float)]
    return ", ".join(parts)


def name_thing(facts: Facts) -> str:
    """'warm start', 'data set', 'pseudo-label store', ..."""
    kind, command = str(facts["kind"]), str(facts.get("command", ""))
    return NAMES.get(command, KINDS[kind]) if kind == "run" else KINDS[kind]
