"""The scores of an evaluation by case and class: metrics.csv written and read, and two evaluations compared. Needs no torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samsemi import console
from samsemi.errors import DataError, UsageError
from samsemi.inputs import hash_file, read_rows
from samsemi.metrics import METRICS, OUTCOMES, SURFACES, calibration_error, mean_known
from samsemi.outputs import write_rows
from samsemi.schemas import read_object
from samsemi.statistics import Summary, compare_seeds, holm, summarize_seeds

TABLE = "metrics.csv"
TABLE_HASH = "metrics_csv_sha256"
"""Key of metrics.json; those of before lack it."""
COLUMNS = (*METRICS, *OUTCOMES)
FIRST = METRICS[:7]
"""What every table has; one of before has no more."""
RANGES = {"hd95": (0, 1e9), "assd": (0, 1e9), "area_error": (-1, 1e9), "area_difference": (-1e12, 1e12)}
"""Of METRICS; the others are shares, from 0 to 1."""
LENGTHS = ("hd95", "assd", "area_difference")
"""In pixels or mm, to the power of 1 or more."""
SIGNED = ("area_error", "area_difference")
EARLIER = "give the --out folder of an earlier `samsemi eval`"

Scores = dict[str, dict[str, dict[str, float]]]
"""{case id: {class: {metric: value}}}"""


def mean_over_classes(per_class: Mapping[str, Mapping[str, float]], metric: str) -> float:
    """Mean of the classes that could be measured; NaN where none could."""
    return mean_known([values[metric] for values in per_class.values()])


def summarize_scores(scores: Scores | Sequence[Scores], groups: Mapping[str, str], classes: Iterable[str], seed: int) -> dict[str, Any]:
    """{"classes": {name: {metric: summary}}, "mean": {metric: summary}} of cases or volumes, bootstrapped by their groups; of several, a
    seed each, over seeds and groups. ``classes`` are those above background. A case without a class was not measured in it.

    Summaries of SURFACES also have how often the class was ``missed`` and how often found where it is not, ``false_alarms``, over all
    seeds; None where the table does not say.
    """
    arm = [scores] if isinstance(scores, dict) else scores
    cases = list(dict.fromkeys(name for one in arm for name in one))
    members = [groups[name] for name in cases]

    def values_of(name: str, column: str) -> np.ndarray:
        return np.array([[one.get(case, {}).get(name, {}).get(column, np.nan) for case in cases] for one in arm])

    def summarize(values: np.ndarray, metric: str, names: Sequence[str]) -> dict[str, Any]:
        counts = (
            count_outcomes(np.stack([[values_of(name, column) for name in names] for column in OUTCOMES])) if metric in SURFACES else {}
        )
        return {**summarize_seeds(values, members, seed), **counts}

    names = list(classes)
    by_class = {name: {m: summarize(values_of(name, m), m, [name]) for m in METRICS} for name in names}
    means = {m: np.array([[mean_over_classes(one.get(case, {}), m) for case in cases] for one in arm]) for m in METRICS}
    return {"classes": by_class, "mean": {m: summarize(values, m, names) for m, values in means.items()}}


def count_outcomes(outcomes: np.ndarray) -> dict[str, int | None]:
    """How often each of OUTCOMES is among (2, ...) values."""
    known = np.isfinite(outcomes).any()
    return {name: int(np.nansum(values)) if known else None for name, values in zip(("missed", "false_alarms"), outcomes, strict=True)}


def compare_scores(
    scores: Scores | Sequence[Scores],
    earlier: Scores | Sequence[Scores],
    groups: Mapping[str, str],
    seed: int,
    metrics: Sequence[str] = METRICS,
) -> dict[str, Summary]:
    """Paired differences of the class means, ``scores`` minus ``earlier``, or of as many seeds of each; groups by case id. ``holm_p`` is p
    corrected for all metrics."""
    arms = [[one] if isinstance(one, dict) else one for one in (scores, earlier)]
    found: dict[str, Summary] = {}
    for metric in metrics:
        own, other = ([{name: mean_over_classes(s, metric) for name, s in one.items()} for one in arm] for arm in arms)
        found[metric] = compare_seeds(own, other, groups, seed)
    tested = {metric: p for metric, summary in found.items() if (p := summary["p"]) is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {metric: {**summary, "holm_p": corrected.get(metric)} for metric, summary in found.items()}


def average_scores(arm: Sequence[Scores]) -> Scores:
    """The mean over seeds of each case, class and metric; of those seeds that measured it."""
    if len(arm) == 1:
        return arm[0]
    cases = dict.fromkeys(name for one in arm for name in one)
    found: Scores = {}
    for case in cases:
        rows = [one[case] for one in arm if case in one]
        classes = dict.fromkeys(name for row in rows for name in row)
        found[case] = {name: {c: mean_known([row[name][c] for row in rows if name in row]) for c in COLUMNS} for name in classes}
    return found


def describe_reliability(table: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """{"probabilities": {name: curve}} of the classes above background of a (K, BINS, 3) table."""
    return {"probabilities": {name: describe_curve(table[k]) for k, name in enumerate(classes) if k}}


def describe_curve(table: np.ndarray) -> dict[str, Any]:
    """{"error": ECE, "curve": bins that hold something} of (BINS, 3) number, sum of what was predicted, sum of what is true."""
    curve = [{"count": int(n), "predicted": float(p / n), "true": float(t / n)} for n, p, t in table if n]
    return {"error": calibration_error(table) if curve else None, "curve": curve}


def write_scores(path: Path, scores: Scores, groups: Mapping[str, str], kind: str = "id") -> None:
    """A row per case (or volume, the ``kind``) and class; what could not be measured is left empty."""
    rows = [
        [name, groups[name], class_name, *("" if np.isnan(values[column]) else f"{values[column]:.6g}" for column in COLUMNS)]
        for name, per_class in scores.items()
        for class_name, values in per_class.items()
    ]
    write_rows(path, [[kind, "group", "class", *COLUMNS], *rows])


def read_scores(folder: Path, given: str) -> tuple[Scores, dict[str, str]]:
    """The scores of an evaluation, and the group of each case; DataError, beginning with ``given``, where there is none."""
    path = Path(folder) / TABLE
    if not path.is_file():
        raise DataError(f"{given}: no evaluation there, it has no {TABLE}", EARLIER)
    about = path.with_name("metrics.json")
    expected = read_object(about).get(TABLE_HASH) if about.is_file() else None
    if expected and expected != hash_file(path):
        raise DataError(f"{given}: its {TABLE} is not the one that was written", EARLIER)
    scores: Scores = {}
    groups = {}
    try:
        for row in read_rows(path):
            own = scores.setdefault(row["id"], {})
            if row["class"] in own:
                raise ValueError(f"{row['id']:.60} has {row['class']:.60} twice")
            own[row["class"]] = {c: read_score(c, row[c] if c in FIRST else row.get(c) or "") for c in COLUMNS}
            groups[row["id"]] = row["group"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{given}: no evaluation there, its {TABLE} cannot be read ({repr(error):.200})", EARLIER) from None
    if not scores:
        raise DataError(f"{given}: no evaluation there, its {TABLE} has no rows", EARLIER)
    return scores, groups


@dataclass(frozen=True)
class Conditions:
    """How scores were measured; None where an evaluation does not say."""

    distance_unit: str | None
    tolerance: float | None
    dataset: str | None
    """Its fingerprint."""


def read_conditions(about: Mapping[str, Any]) -> Conditions:
    """Of a metrics.json."""
    options, made_from = (found if isinstance(found := about.get(name), dict) else {} for name in ("options", "made_from"))
    return Conditions(about.get("distance_unit"), options.get("tolerance"), made_from.get("dataset"))


def need_alike(against: Path, earlier: Scores, cases: Collection[str], conditions: Conditions) -> None:
    """Errors where an earlier evaluation has none of these cases, or has measured in another unit or with another tolerance; a warning
    where its data set was another one."""
    given, about = f"--against {against}", Path(against) / "metrics.json"
    if earlier.keys().isdisjoint(cases):
        raise DataError(f"{given}: it has measured none of the {len(cases)} cases of this split", "give an evaluation of the same split")
    other = read_conditions(read_object(about) if about.is_file() else {})
    if other.distance_unit not in (None, conditions.distance_unit):
        raise DataError(f"{given}: distances in {other.distance_unit!s:.20}, here in {conditions.distance_unit}", "measure both alike")
    if other.tolerance not in (None, conditions.tolerance):
        raise UsageError(f"{given}: nsd within {other.tolerance!s:.20}, here within {conditions.tolerance}", "give both one --tolerance")
    if other.dataset not in (None, conditions.dataset):
        console.warn(f"{given} has measured another data set, or this one before it was prepared anew: its masks may be others")


def read_score(metric: str, cell: str) -> float:
    """The value of a cell, NaN where it is empty; ValueError for what no metric can be."""
    if cell == "":
        return float("nan")
    value = float(cell)
    low, high = RANGES.get(metric, (0, 1))
    if not low <= value <= high:
        raise ValueError(f"{metric} is {cell:.20}")
    return value


def format_summary(metric: str, summary: Mapping[str, Any], sign: str = "") -> list[str]:
    """Mean and interval; lengths and areas with one digit after the point, shares with three."""
    if summary["mean"] is None:
        return ["-", "-"]
    sign = "+" if metric in SIGNED else sign
    digits = f"{sign}.1f" if metric in LENGTHS else f"{sign}.3f"
    mean, low, high = (None if (value := summary[name]) is None else format(value, digits) for name in ("mean", "low", "high"))
    return [str(mean), "-" if low is None else f"[{low}, {high}]"]


def format_p(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
