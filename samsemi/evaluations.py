"""The scores of an evaluation by case and class: metrics.csv written and read, and two evaluations compared. Needs no torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samsemi.errors import DataError
from samsemi.inputs import hash_file, read_rows
from samsemi.metrics import METRICS, compare, summarize_values
from samsemi.outputs import write_rows
from samsemi.schemas import read_object

TABLE = "metrics.csv"
TABLE_HASH = "metrics_csv_sha256"
"""Key of metrics.json; those of before lack it."""
DISTANCES = ("hd95", "assd")
"""Of METRICS; the others are shares."""
FARTHEST = 1e9
"""Of a distance, in mm or pixels."""
EARLIER = "give the --out folder of an earlier `samsemi eval`"

Scores = dict[str, dict[str, dict[str, float]]]
"""{case id: {class: {metric: value}}}"""


def mean_over_classes(per_class: Mapping[str, Mapping[str, float]], metric: str) -> float:
    """Mean of the classes that could be measured; NaN where none could."""
    known = [values[metric] for values in per_class.values() if not np.isnan(values[metric])]
    return float(np.mean(known)) if known else float("nan")


def summarize_scores(scores: Scores, groups: Mapping[str, str], classes: Iterable[str], seed: int) -> dict[str, Any]:
    """{"classes": {name: {metric: summary}}, "mean": {metric: summary}} of cases or volumes, bootstrapped by their groups; ``classes``
    are those above background. A case without a class was not measured in it."""
    members = [groups[name] for name in scores]

    def summarize(values: Iterable[float]) -> dict[str, float | int | None]:
        return summarize_values(list(values), members, seed)

    cases = scores.values()
    by_class = {name: {m: summarize(s[name][m] if name in s else np.nan for s in cases) for m in METRICS} for name in classes}
    return {"classes": by_class, "mean": {m: summarize(mean_over_classes(s, m) for s in cases) for m in METRICS}}


def compare_scores(scores: Scores, earlier: Scores, groups: Mapping[str, str], seed: int) -> dict[str, dict[str, float | int | None]]:
    """Paired differences of the class means, ``scores`` minus ``earlier``; groups by case id."""
    return {
        metric: compare(
            {name: mean_over_classes(s, metric) for name, s in scores.items()},
            {name: mean_over_classes(s, metric) for name, s in earlier.items()},
            groups,
            seed,
        )
        for metric in METRICS
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values, in the given order. Source: Holm, Scandinavian Journal of Statistics 1979."""
    order = np.argsort(p_values)
    rising = np.maximum.accumulate([(len(order) - rank) * p_values[i] for rank, i in enumerate(order)])
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(rising, 1.0)
    return corrected.tolist()


def write_scores(path: Path, scores: Scores, groups: Mapping[str, str], kind: str = "id") -> None:
    """A row per case (or volume, the ``kind``) and class; a metric that could not be measured is left empty."""
    rows = [
        [name, groups[name], class_name, *("" if np.isnan(values[metric]) else f"{values[metric]:.6g}" for metric in METRICS)]
        for name, per_class in scores.items()
        for class_name, values in per_class.items()
    ]
    write_rows(path, [[kind, "group", "class", *METRICS], *rows])


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
            own[row["class"]] = {metric: read_score(metric, row[metric]) for metric in METRICS}
            groups[row["id"]] = row["group"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{given}: no evaluation there, its {TABLE} cannot be read ({repr(error):.200})", EARLIER) from None
    if not scores:
        raise DataError(f"{given}: no evaluation there, its {TABLE} has no rows", EARLIER)
    return scores, groups


def read_score(metric: str, cell: str) -> float:
    """The value of a cell, NaN where it is empty; ValueError for what no metric can be."""
    if cell == "":
        return float("nan")
    value = float(cell)
    if not 0 <= value <= (FARTHEST if metric in DISTANCES else 1):
        raise ValueError(f"{metric} is {cell:.20}")
    return value


def format_summary(metric: str, summary: Mapping[str, Any], sign: str = "") -> list[str]:
    """Mean and interval; distances with one digit after the point, shares with three."""
    if summary["mean"] is None:
        return ["-", "-"]
    digits = f"{sign}.1f" if metric in DISTANCES else f"{sign}.3f"
    mean, low, high = (format(summary[name], digits) for name in ("mean", "low", "high"))
    return [mean, f"[{low}, {high}]"]


def format_p(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
