"""Where everything comes from: commands, versions, hashes, licenses, as a person reads them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samsemi.console import flatten
from samsemi.errors import SamsemiError
from samsemi.inspection.made import known_options
from samsemi.inspection.rows import HASH, SHORT, as_flags, as_rows
from samsemi.inspection.things import inspect
from samsemi.reporting.sources import Sources
from samsemi.schemas import read_object
from samsemi.weights.table import WEIGHTS

LICENSES = {
    "tiny": "Apache-2.0, in the package",
    **dict.fromkeys(("none", "ellipse"), "no weights"),
    **{name: weights.license for name, weights in WEIGHTS.items()},
}
"""Of the weights of each SAM."""
UNKNOWN = "weights that samsemi does not know: ask who gave them"
HIDDEN = ("what", "path")
"""Rows that stand in the title."""


@dataclass(frozen=True)
class Origin:
    """One thing: an evaluation, a run, a store or the data set."""

    title: str
    path: str
    command: str
    """As it was typed, as far as that is known; '' where it is not."""
    rows: Sequence[tuple[str, str]]
    hashes: Sequence[tuple[str, str]]
    """Of what it was made from, whole."""
    versions: Mapping[str, str]


def trace_origins(sources: Sources) -> list[Origin]:
    """Of everything that the report is made from, evaluations first."""
    things = [one.folder for one in sources.evaluations] + [one.folder for one in sources.trainings]
    things += [store.path for store in sources.stores.values()]
    return [trace_origin(path) for path in (*things, *([sources.dataset.folder] if sources.dataset else []))]


def trace_origin(path: Path) -> Origin:
    """What `samsemi info` says of a thing, its hashes whole, and the versions that made it."""
    try:
        facts = inspect(path)
    except SamsemiError as error:
        return Origin("damaged", str(path), "", [("problem", error.message)], [], {})
    shown = as_rows(facts)
    made_from = facts.get("made_from")
    hashes = list(find_hashes({"fingerprint": facts.get("fingerprint"), "made from": made_from}))
    short = {value[:SHORT] for _, value in hashes}
    rows = [(name, value) for name, value in flatten(shown) if name not in HIDDEN and value not in short]
    sam = made_from.get("sam") if isinstance(made_from, Mapping) else None
    if isinstance(sam, str):
        rows.append(("license of the SAM's weights", LICENSES.get(sam, UNKNOWN)))
    return Origin(str(shown["what"]), str(path), write_command(facts), rows, hashes, read_versions(path))


def find_hashes(values: Mapping[str, object], above: str = "") -> Sequence[tuple[str, str]]:
    """Every SHA-256 in nested tables, with the names that lead to it."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += find_hashes(value, f"{above}{name} ")
        elif isinstance(value, str) and HASH.fullmatch(value):
            found.append((f"{above}{name}".replace("_", " "), value))
    return found


def write_command(facts: Mapping[str, object]) -> str:
    """The command line that made a thing, without what was left at its default and where it was written."""
    command, given = str(facts.get("command") or ""), {**as_table(facts.get("inputs")), **as_table(facts.get("options"))}
    if not command:
        return ""
    known = known_options(command)
    places = [shlex.quote(str(given.pop(name))) for name, option in known.items() if option.field.argument and name in given]
    return " ".join(part for part in ("samsemi", command, *places, as_flags(command, given)) if part)


def as_table(values: object) -> dict[str, object]:
    return dict(values) if isinstance(values, Mapping) else {}


def read_versions(path: Path) -> dict[str, str]:
    """environment.json of a run; empty for what is none."""
    if not (path / "environment.json").is_file():
        return {}
    try:
        return {name: str(value) for name, value in read_object(path / "environment.json").items()}
    except SamsemiError as error:
        return {"unknown": error.message}
