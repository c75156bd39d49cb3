"""What a report is made from: evaluations, the runs that they measured, the stores that these learned from, and their data set."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from samsemi.data.dataset import Dataset, is_dataset, read_dataset
from samsemi.errors import CheckpointError, SamsemiError, UsageError
from samsemi.evaluations import Scores, read_scores
from samsemi.hdf5 import named_damage
from samsemi.inputs import hash_file
from samsemi.inspection.made import read_places, table_of
from samsemi.inspection.runs import is_run, read_config, read_history, read_made_from
from samsemi.inspection.stores import is_hdf5
from samsemi.mining.store import Store
from samsemi.options.report import ReportOptions
from samsemi.reporting.reliability import Reliability, read_reliability
from samsemi.schemas import read_object

Thing = TypeVar("Thing")
AGAIN = "make it again, or take a copy that is whole"


@dataclass(frozen=True)
class Evaluation:
    """A folder of `samsemi eval`."""

    name: str
    """Of what was measured, where that is known; unlike the others' of a report."""
    folder: Path
    split: str
    distance_unit: str
    places: Mapping[str, Path]
    """What it read, by the name of the option: dataset, and model, predictions or store; empty where it does not say."""
    made_from: Mapping[str, object]
    scores: Scores
    groups: Mapping[str, str]
    reliability: Reliability = Reliability()
    arm: str = ""
    """Evaluations of one arm are seeds of it; '' of one alone."""

    @property
    def scope(self) -> tuple[object, ...]:
        """Equal where the same was measured."""
        return self.split, self.made_from.get("dataset"), frozenset(self.scores)

    @property
    def measured(self) -> object:
        """Equal where the same model was; of masks the folder."""
        return self.made_from.get("model", self.folder.resolve())


@dataclass(frozen=True)
class Training:
    """A run folder."""

    name: str
    folder: Path
    command: str
    options: Mapping[str, object]
    places: Mapping[str, Path]
    made_from: Mapping[str, object]
    history: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Sources:
    evaluations: tuple[Evaluation, ...] = ()
    trainings: tuple[Training, ...] = ()
    """In the order in which they were made: what a run began from stands before it."""
    stores: Mapping[str, Store] = field(default_factory=dict)
    """By name."""
    dataset: Dataset | None = None
    lacking: tuple[str, ...] = ()
    """What is named by the others and is not there, one line each."""


def gather(options: ReportOptions) -> Sources:
    """Everything that there is to tell; UsageError where the first arguments are neither evaluations nor stores, and the errors of
    whatever is given and cannot be read. What is only named by a file, and cannot be, is left out."""
    stores = [path for path in options.evals if is_hdf5(path)]
    evaluations = with_names([read_evaluation(*split_arm(path)) for path in options.evals if path not in stores])
    refuse_alike(evaluations)
    lacking: list[str] = []
    named = [evaluation.places["model"] for evaluation in evaluations if "model" in evaluation.places]
    trainings = [read_training(path) for path in options.model] or read_named(named, read_training, lacking)
    trainings = follow(trainings, lacking)
    named = [evaluation.places["store"] for evaluation in evaluations if "store" in evaluation.places]
    named += [path for training in trainings for path in stores_of(training)]
    opened = [Store(path) for path in (*stores, *options.store)] or read_named(named, Store, lacking)
    dataset = read_dataset(options.dataset) if options.dataset else find_dataset(evaluations, trainings, opened)
    names = unlike([name_store(store.path) for store in opened], [str(store.path) for store in opened])
    return Sources(tuple(evaluations), tuple(trainings), dict(zip(names, opened, strict=True)), dataset, tuple(dict.fromkeys(lacking)))


def split_arm(given: Path) -> tuple[Path, str]:
    """'ARM=EVAL' -> (EVAL, ARM); what exists as it was given is a folder without an arm."""
    arm, equals, path = str(given).partition("=")
    return (Path(path), arm) if equals and arm and path and not os.path.exists(given) else (given, "")


def refuse_alike(evaluations: Sequence[Evaluation]) -> None:
    """UsageError for evaluations of one arm that are no seeds of it: of other cases, or of the same model."""
    for one, other in combinations([one for one in evaluations if one.arm], 2):
        what = f"{one.folder} and {other.folder}, both given as {one.arm}"
        if one.arm == other.arm and one.scope != other.scope:
            raise UsageError(f"{what}, measured other cases", "give evaluations of the same split of the same data set")
        if one.arm == other.arm and one.measured == other.measured:
            raise UsageError(f"{what}, are of the same model", "a seed is a training of its own")


def read_evaluation(folder: Path, arm: str = "") -> Evaluation:
    """metrics.json and metrics.csv of a folder."""
    if not os.path.isfile(folder / "metrics.json"):
        raise UsageError(f"{folder} is neither an evaluation nor a store", "give --out folders of `samsemi eval`, or a STORE.h5")
    scores, groups = read_scores(folder, str(folder))
    about = read_object(folder / "metrics.json")
    with named_damage(folder / "metrics.json", AGAIN):
        places = as_paths(read_places("eval", table_of(about.get("options"))))
        made_from, reliability = table_of(about.get("made_from")), read_reliability(about.get("reliability"))
    measured = next((places[name].name for name in ("model", "predictions", "store") if name in places), folder.name)
    split, unit = str(about.get("split", "?")), str(about.get("distance_unit", "pixels"))
    return Evaluation(arm or measured, folder, split, unit, places, made_from, scores, groups, reliability, arm)


def read_training(folder: Path) -> Training:
    """A run folder; CheckpointError where there is none."""
    if not is_run(folder):
        raise CheckpointError(f"{folder}: no run there", "give a folder that `samsemi warmstart`, finetune or distill wrote")
    with named_damage(folder, AGAIN):
        command, options = read_config(folder)
        places = as_paths(read_places(command, options))
        history = read_history(folder)
        need_numbers(history)
        return Training(folder.name, folder, command, options, places, read_made_from(folder), history)


def need_numbers(history: Sequence[Mapping[str, str]]) -> None:
    """ValueError or KeyError for a row without an iteration, and for a cell that is neither empty nor a number."""
    for row in history:
        int(row["iteration"])
        for value in filter(None, row.values()):
            float(value)


def as_paths(places: Mapping[str, object]) -> dict[str, Path]:
    """The places that are one path; of several models, as `mine` takes, none is the one that a run began from."""
    return {name: Path(value) for name, value in places.items() if isinstance(value, str) and "\0" not in value}


def follow(trainings: Sequence[Training], lacking: list[str]) -> list[Training]:
    """Runs, each after the run that it began from."""
    found: dict[Path, Training] = {}
    for training in trainings:
        chain = [training]
        while (before := chain[0].places.get("model")) and before.resolve() not in {one.folder.resolve() for one in chain}:
            earlier = read_named([before], read_training, lacking)
            if not earlier:
                break
            chain = [*earlier, *chain]
        for one in chain:
            found.setdefault(one.folder.resolve(), one)
    return list(found.values())


def stores_of(training: Training) -> Iterator[Path]:
    """The stores that a run learned from: the first, and those that were mined again."""
    if "store" in training.places:
        yield training.places["store"]
    yield from sorted((training.folder / "stores").glob("*.h5"), key=lambda path: (len(path.stem), path.stem))


def name_store(path: Path) -> str:
    """'once.h5'; of one that a run has mined again 'mined at 40', the iteration."""
    return f"{path.parent.parent.name} at {int(path.stem)}" if path.parent.name == "stores" and path.stem.isdigit() else path.name


def read_named(paths: Iterable[Path], read: Callable[[Path], Thing], lacking: list[str]) -> list[Thing]:
    """What other files name, each once; what cannot be read is noted as lacking."""
    found: dict[Path, Thing] = {}
    for path in paths:
        try:
            if path.resolve() not in found:
                found[path.resolve()] = read(path)
        except SamsemiError as error:
            lacking.append(error.message)
        except OSError as error:
            lacking.append(f"{path}: {error.strerror}")
    return [*found.values()]


def match_reliability(sources: Sources) -> dict[str, Reliability]:
    """Store -> how far its scores can be believed, by an evaluation of that very file."""
    judged = {one.places["store"].resolve(): one for one in sources.evaluations if "store" in one.places}
    found = {name: judged[store.path.resolve()] for name, store in sources.stores.items() if store.path.resolve() in judged}
    same = {name: one for name, one in found.items() if one.made_from.get("store_content") == hash_file(sources.stores[name].path)}
    return {name: one.reliability for name, one in same.items()}


def find_dataset(evaluations: Sequence[Evaluation], trainings: Sequence[Training], stores: Sequence[Store]) -> Dataset | None:
    """The data set that the things were made from, known by its fingerprint: where they say, or in a folder beside them."""
    things: list[Evaluation | Training] = [*evaluations, *trainings]
    made_from = [thing.made_from for thing in things] + [store.provenance.made_from for store in stores]
    prints = {str(one["dataset"]) for one in made_from if "dataset" in one}
    named = [thing.places["dataset"] for thing in things if "dataset" in thing.places]
    beside = {place.resolve().parent for place in (*(thing.folder for thing in things), *(store.path for store in stores))}
    candidates = [*named, *(path for folder in sorted(beside) for path in sorted(folder.glob("*")) if path.is_dir())]
    for path in dict.fromkeys(candidates):
        if is_dataset(path):
            found = read_named([path], read_dataset, [])
            if found and found[0].fingerprint() in prints:
                return found[0]
    return None


def with_names(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations whose names differ."""
    names = unlike([one.name for one in evaluations], [one.folder.name for one in evaluations])
    return [Evaluation(**{**vars(one), "name": name}) for one, name in zip(evaluations, names, strict=True)]


def unlike(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Names; where two are alike, the other of each in brackets behind it, and a number where that is alike, too."""
    counts = Counter(names)
    longer = [name if counts[name] == 1 else f"{name} ({other})" for name, other in zip(names, others, strict=True)]
    return [name if longer.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(longer)]
