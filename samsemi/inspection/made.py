"""What is common to the things that commands make: their options, their size on disk."""

from collections.abc import Mapping
from pathlib import Path

from samsemi.options.commands import STAGES
from samsemi.options.fields import Option, declared

Facts = dict[str, object]
"""What there is to know of a thing, by name; plain JSON values."""
KINDS = {
    "dataset": "data set",
    "run": "run",
    "adapted_sam": "adapted SAM",
    "teacher": "SAM of KnowSAM, the teacher",
    "weights": "weights without a card of samsemi",
    "store": "pseudo-label store",
    "embeddings": "cache of SAM's embeddings",
    "out_of_fold": "out-of-fold predictions",
    "evaluation": "evaluation",
    "predictions": "predictions",
    "labels": "exported labels",
    "exported": "exported network (ONNX)",
    "folder": "folder",
}
"""Kind of a thing -> its name."""


def count_bytes(*places: Path) -> int:
    """Bytes of some files, and of all files below some folders; what is not there has none. Links are not followed."""
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def changed_options(command: str, values: Mapping[str, object]) -> Facts:
    """The options of a command that are not as by default, but what it reads and writes; those that it does not know, too."""
    known = known_options(command)
    return {name: value for name, value in values.items() if name not in known or is_changed(known[name], value)}


def is_changed(option: Option, value: object) -> bool:
    return not names_place(option) and value != option.default


def read_places(command: str, values: Mapping[str, object]) -> Facts:
    """The files and folders that a command has read, as they were given."""
    known = known_options(command)
    return {name: value for name, value in values.items() if name in known and known[name].field.reads and value is not None}


def names_place(option: Option) -> bool:
    """True for what is read, and for where the output goes."""
    return option.field.reads or option.base is Path


def known_options(command: str) -> dict[str, Option]:
    return declared(STAGES[command][1]) if command in STAGES else {}


def table_of(values: object) -> Facts:
    """A table of values as it stands in a file; empty for none, ValueError for anything else."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r:.40} instead of a table of values")
    return dict(values)
