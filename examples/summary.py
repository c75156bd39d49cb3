"""What a pipeline brought, as Markdown: each arm, every arm against every other, and in words whether mining won.

    python examples/summary.py OUT

Reads the evaluations and records that examples/pipeline.sh left in OUT. Differences are paired over the test cases; their 95 % intervals
come from resampling patients (groups) with these models: they do not cover what another seed would give.
"""

import csv
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from step import stand_in

from samsemi.statistics import compare

BASELINES = ("labeled-only", "self-training")
MINING = ("once", "continuous")
ARMS = ("warm", *BASELINES, *MINING)
Dice = dict[str, float]
"""Test case -> mean Dice over its classes."""


def main() -> None:
    out = Path(sys.argv[1])
    arms = [arm for arm in ARMS if (out / f"eval-{arm}" / "metrics.csv").exists()]
    dice = {arm: read_dice(out / f"eval-{arm}") for arm in arms}
    groups = read_groups(out / "eval-warm")
    print(f"\n{write_scores(out, arms)}\n\n{write_stores(out, arms)}\n\n{write_differences(dice, groups)}\n")
    for arm in arms:
        if stand_in(out, arm):
            print(f"{arm}: nothing accepted; its figures are those of labeled-only.")
    print(*write_verdicts(dice, groups), sep="\n")


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_dice(folder: Path) -> Dice:
    """Of an evaluation; cases that could not be measured are left out."""
    scores: dict[str, list[float]] = {}
    for row in read_rows(folder):
        if row["dice"]:
            scores.setdefault(row["id"], []).append(float(row["dice"]))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def read_groups(folder: Path) -> dict[str, str]:
    return {row["id"]: row["group"] for row in read_rows(folder)}


def write_scores(out: Path, arms: list[str]) -> str:
    lines = ["| model | test Dice [95 % interval] | IoU | HD95 | s |", "|---|---|---|---|---|"]
    for arm in arms:
        mean = json.loads((out / f"eval-{arm}" / "metrics.json").read_text())["mean"]
        nothing = stand_in(out, arm)
        name, time = (f"{arm} (nothing accepted)", "") if nothing else (arm, seconds(out, arm))
        cells = [name, interval(mean["dice"]), number(mean["iou"], ".3f"), number(mean["hd95"], ".1f"), time]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_stores(out: Path, arms: list[str]) -> str:
    """How good the mined masks are, by the hidden truth of the unlabeled cases."""
    lines = ["| masks for | Dice to hidden truth | of cases | s |", "|---|---|---|---|"]
    for arm in arms:
        file = out / f"eval-store-{arm}" / "metrics.json"
        if file.exists() and not stand_in(out, arm):
            found = json.loads(file.read_text())
            cells = [arm, interval(found["mean"]["dice"]), f"{found['coverage']:.0%}", seconds(out, f"mine-{arm}")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_differences(dice: dict[str, Dice], groups: dict[str, str]) -> str:
    """A line for every pair of arms."""
    lines = ["| difference in test Dice | points [95 % interval] | p |", "|---|---|---|"]
    for other, arm in combinations(dice, 2):
        found = compare(dice[arm], dice[other], groups, seed=0)
        p = found["wilcoxon_p"]
        lines.append(f"| {arm} - {other} | {points(found)} | {'' if p is None else f'{p:.2g}'} |")
    return "\n".join(lines)


def write_verdicts(dice: dict[str, Dice], groups: dict[str, str]) -> list[str]:
    """A sentence for each arm that mines with SAM and each baseline."""
    pairs = [(arm, other) for arm in MINING for other in BASELINES if arm in dice and other in dice]
    return [sentence(arm, other, compare(dice[arm], dice[other], groups, seed=0)) for arm, other in pairs]


def sentence(arm: str, other: str, found: dict) -> str:
    if found["mean"] is None:
        return f"Mining ({arm}) and {other} cannot be compared: no test case was measured in both."
    if found["low"] is None:
        return f"Mining ({arm}) and {other} cannot be told apart: all test cases are of one patient."
    known = found["high"] < 0 or found["low"] > 0
    if found["mean"] >= 0 and not known:
        return f"Mining ({arm}) is not told apart from {other}: {points(found)} points of Dice, an interval that includes 0."
    outcome = "lost to" if found["mean"] < 0 else "won against"
    doubt = "" if known else " The interval includes 0: on these test cases the two are not told apart."
    return f"Mining ({arm}) {outcome} {other}: {points(found)} points of Dice.{doubt}"


def points(found: dict) -> str:
    """'+1.2 [-0.3, +2.7]', or nothing where there is no interval."""
    return "" if found["low"] is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * found[key] for key in ("mean", "low", "high")))


def interval(summary: dict) -> str:
    """'0.512 [0.470, 0.553]', without what is not known."""
    if summary["mean"] is None or summary["low"] is None:
        return number(summary, ".3f")
    return f"{summary['mean']:.3f} [{summary['low']:.3f}, {summary['high']:.3f}]"


def number(summary: dict, style: str) -> str:
    return "" if summary["mean"] is None else f"{summary['mean']:{style}}"


def seconds(out: Path, step: str) -> str:
    """Of a step's last run, rounded."""
    file = out / "steps" / f"{step}.json"
    return f"{json.loads(file.read_text())['seconds']:.0f}" if file.exists() else ""


if __name__ == "__main__":
    main()
