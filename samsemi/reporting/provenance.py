"""Where everything comes from: commands, versions, hashes, licenses, as a person reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samsemi.console import flatten
from samsemi.errors import SamsemiError
from samsemi.inspection.licenses import find_licenses
from samsemi.inspection.rows import HASH, SHORT, as_rows, write_command
from samsemi.inspection.things import inspect
from samsemi.reporting.sources import Sources
from samsemi.schemas import read_object

HIDDEN = ("what", "path", "card")
"""Rows that stand in the title, and one for a terminal."""


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
    rows += [(f"license of {name}", text) for name, text in find_licenses(facts).items()]
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


def read_versions(path: Path) -> dict[str, str]:
    """environment.json of a run; empty for what is none."""
    if not (path / "environment.json").is_file():
        return {}
    try:
        return {name: str(value) for name, value in read_object(path / "environment.json").items()}
    except SamsemiError as error:
        return {"unknown": error.message}
