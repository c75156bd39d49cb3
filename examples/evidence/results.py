"""What is kept of a cell: the scores of each test case, and a line of where they come from. Small, and all that tables need.

RESULTS/ROW/ARM-seed-N.csv      id, group where it is not the id, class, dice, iou, hd95
RESULTS/readings.csv            a line each time that test cases were read: which cell, when, by which commit, what was learnt
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from bench import Bench
from design import Cell

METRICS = ("dice", "iou", "hd95")


@dataclass(frozen=True)
class Reading:
    """A line of readings.csv; empty where there is nothing to say."""

    row: str
    seed: int
    arm: str
    date: str
    commit: str
    """Of the samsemi that trained."""
    measured: str
    """The arm whose model it is: labeled-only where mining accepted nothing."""
    iterations: int
    """Of its own training and of the warm start."""
    seconds: float
    """Of its own training."""
    warm: str
    """The beginning of the hash of the warm start's weights, which arms of a seed share unless a machine was lost between them."""
    objects: int | None = None
    """That were mined."""
    accepted: int | None = None
    coverage: float | None = None
    """Share of the unlabeled images with an accepted object."""
    pseudo_dice: float | None = None
    """Of the pseudo-labels of those, against the hidden truth."""
    precision: float | None = None
    """As the calibration has estimated it; empty where it had too few objects."""


def cell_file(results: Path, cell: Cell) -> Path:
    return results / cell.row.name / f"{cell.arm}-seed-{cell.seed}.csv"


def keep_reading(results: Path, reading: Reading) -> None:
    """Append a line."""
    file = results / "readings.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Reading)]
    is_new = not file.exists()
    with open(file, "a", newline="") as out:
        writer = csv.DictWriter(out, names, lineterminator="\n")
        if is_new:
            writer.writeheader()
        values = asdict(reading).items()
        writer.writerow({name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values})


def read_readings(results: Path) -> list[dict[str, str]]:
    """In their order; none where nothing was read yet."""
    file = results / "readings.csv"
    if not file.exists():
        return []
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def describe(bench: Bench, cell: Cell, measured: str, commit: str, date: str) -> Reading:
    """What the steps of a cell have left in its folder."""
    trained, made_from = read_step(bench, measured), json.loads((bench.folder / measured / "made_from.json").read_text())
    warm = str(made_from.get("model", ""))[:8]
    seconds = round(trained["seconds"])
    found = Reading(cell.row.name, cell.seed, cell.arm, date, commit, measured, bench.iterations, seconds, warm)
    mined = read_mined(bench, f"mine-{cell.arm}") if cell.arm in ("self-training", "mined") else {}
    return Reading(**{**asdict(found), **mined})


def read_mined(bench: Bench, name: str) -> dict[str, object]:
    """Nothing but empty values where nothing was accepted."""
    result = read_step(bench, name)
    measured = bench.folder / f"eval-{name}" / "metrics.json"
    if not result or not measured.exists():
        return {"accepted": 0}
    metrics = json.loads(measured.read_text())
    values = {name: result.get(name) for name in ("objects", "accepted")}
    values |= {"coverage": metrics["coverage"], "pseudo_dice": metrics["mean"]["dice"]["mean"]}
    return {**values, "precision": result.get("calibrated_precision")}


def read_step(bench: Bench, name: str) -> dict:
    return json.loads((bench.folder / "steps" / f"{name}.json").read_text())["result"]


def keep_cases(evaluation: Path, file: Path) -> None:
    """metrics.csv of an evaluation with few columns and digits, whole or not at all."""
    with open(evaluation / "metrics.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    with open(part, "w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["id", "group", "class", *METRICS])
        for row in rows:
            group = "" if row["group"] == row["id"] else row["group"]
            writer.writerow([row["id"], group, row["class"], *(f"{float(row[m]):.4g}" if row[m] else "" for m in METRICS)])
    part.replace(file)


@dataclass(frozen=True)
class Scores:
    """Of one cell: case -> value, the mean over the classes that could be measured."""

    values: Mapping[str, Mapping[str, float]]
    """Metric -> case -> value."""
    groups: Mapping[str, str]
    """Case -> patient."""

    def mean(self, metric: str) -> float:
        return float(np.nanmean(list(self.values[metric].values())))


def read_cases(file: Path) -> Scores:
    """What ``keep_cases`` wrote."""
    found: dict[str, dict[str, list[float]]] = {metric: {} for metric in METRICS}
    groups: dict[str, str] = {}
    with open(file, newline="") as lines:
        for row in csv.DictReader(lines):
            groups[row["id"]] = row["group"] or row["id"]
            for metric in METRICS:
                found[metric].setdefault(row["id"], []).extend([float(row[metric])] if row[metric] else [])
    means = {metric: {name: float(np.mean(v)) if v else float("nan") for name, v in cases.items()} for metric, cases in found.items()}
    return Scores(means, groups)


def read_arm(results: Path, row: str, arm: str, seeds: Sequence[int] | None = None) -> dict[int, Scores]:
    """Seed -> scores of the cells that are there, of some seeds or of all."""
    files = {int(file.stem.rpartition("-")[2]): file for file in (results / row).glob(f"{arm}-seed-*.csv")}
    return {seed: read_cases(files[seed]) for seed in sorted(files) if seeds is None or seed in seeds}
