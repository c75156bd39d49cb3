"""The table of what `run.py` has measured: Markdown on stdout, OUT/table.json beside it.

    python examples/evidence/table.py OUT [--seeds 2 3 4] [--over distill]

Of each arm the mean over the seeds, and Dice of each seed; of each difference the mean over test cases of the mean over seeds, with a
95 % bootstrap interval over test cases (the same cases for all seeds) and Wilcoxon's p, which say nothing of what another seed would
give. The gain is that over the better of `supervised` and `labeled-only`; the column after it is the difference to the arm of --over.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from run import BASELINES, PLAN
from step import stand_in

from samsemi.metrics import compare
from samsemi.stages.evaluate import mean_over_classes, read_scores

METRICS = ("dice", "iou", "hd95")
COLUMNS = (
    *("set, labels", "seeds", "arm", "Dice", "of each seed", "IoU", "HD95"),
    *("gain (points)", "over {over}", "pseudo-label Dice (images)", "s"),
)
LABELS_ALONE = ("supervised", "labeled-only", "supervised-all")
Cases = dict[str, float]
"""Test case -> score, with one seed or as the mean over the seeds."""


def find_seeds(row: Path, seeds: Sequence[int]) -> list[int]:
    """The seeds of which the baselines and `once` are there: all arms of a row are compared over the same ones."""
    return [seed for seed in seeds if all((row / f"seed-{seed}" / f"eval-{arm}" / "metrics.csv").exists() for arm in (*BASELINES, "once"))]


def read_arm(row: Path, arm: str, seeds: Sequence[int]) -> list[dict[str, Cases]] | None:
    """{metric: cases} of an arm with each seed; None unless all seeds are there, or there are none."""
    folders = [row / f"seed-{seed}" / f"eval-{arm}" for seed in seeds]
    if not folders or not all((folder / "metrics.csv").exists() for folder in folders):
        return None
    scores = [read_scores(folder) for folder in folders]
    return [{metric: {case: mean_over_classes(found[case], metric) for case in found} for metric in METRICS} for found in scores]


def mean_over_seeds(found: Sequence[Mapping[str, Cases]]) -> dict[str, Cases]:
    return {metric: {case: float(np.mean([one[metric][case] for one in found])) for case in found[0][metric]} for metric in METRICS}


def mean_dice(found: Mapping[str, Cases]) -> float:
    return float(np.mean(list(found["dice"].values())))


def read_stores(row: Path, arm: str, seeds: Sequence[int]) -> dict[str, float]:
    """Dice and coverage of the pseudo-labels that an arm begins with, coverage 0 with a seed that accepts nothing; nothing for an arm that
    does not mine."""
    found = []
    for folder in (row / f"seed-{seed}" for seed in seeds):
        if stand_in(folder, arm):
            continue
        command = read_step(folder, arm)["command"]
        if "--store" not in command:
            return {}
        store = Path(command[command.index("--store") + 1])
        found.append(json.loads((folder / f"eval-store-{store.stem}" / "metrics.json").read_text()))
    if not found:
        return {}
    return {
        "pseudo_dice": float(np.mean([m["mean"]["dice"]["mean"] for m in found])),
        "coverage": float(sum(m["coverage"] for m in found) / len(seeds)),
    }


def read_seconds(row: Path, arm: str, seeds: Sequence[int]) -> float:
    """Seconds of an arm's own training, mean over the seeds."""
    folders = [row / f"seed-{seed}" for seed in seeds]
    made = [stand_in(folder, arm) or arm for folder in folders]
    return float(np.mean([read_step(folder, name)["result"]["seconds"] for folder, name in zip(folders, made, strict=True)]))


def read_step(folder: Path, name: str) -> dict:
    """What `run.py` has kept of a command: itself, its seconds and its result."""
    return json.loads((folder / "steps" / f"{name}.json").read_text())


def difference(one: Cases, other: Cases) -> dict[str, float]:
    """Paired difference, case by case."""
    return compare(one, other, {case: case for case in one}, seed=0)


def pooled(pairs: Sequence[tuple[Cases, Cases]]) -> dict[str, float]:
    """The difference over the test cases of several rows together."""
    one = {f"{i}/{case}": value for i, (cases, _) in enumerate(pairs) for case, value in cases.items()}
    other = {f"{i}/{case}": value for i, (_, cases) in enumerate(pairs) for case, value in cases.items()}
    return difference(one, other)


def show(found: Mapping[str, float] | None) -> str:
    if not found:
        return ""
    return f"{100 * found['mean']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}] p {found['wilcoxon_p']:.2g}"


def measure_rows(out: Path, seeds: Sequence[int], over: str) -> list[dict[str, object]]:
    """One entry per set, share of labels and arm, compared with the arm ``over``; without scores where it was not run."""
    arms: dict[str, list[str]] = {}
    for name, percent, some in PLAN:
        arms.setdefault(f"{name}-{percent}", []).extend(some)
    rows = []
    for name, some in arms.items():
        done = find_seeds(out / name, seeds)
        by_seed = {arm: read_arm(out / name, arm, done) for arm in some}
        measured = {arm: mean_over_seeds(found) if found else None for arm, found in by_seed.items()}
        bases = [measured[arm] for arm in ("supervised", "labeled-only") if measured.get(arm)]
        base = max(bases, key=mean_dice) if len(bases) == 2 else None
        for arm, found in measured.items():
            row: dict[str, object] = {"row": name, "arm": arm, "seeds": done}
            row["nothing_accepted"] = [seed for seed in done if stand_in(out / name / f"seed-{seed}", arm)]
            if found:
                row |= {metric: float(np.nanmean(list(found[metric].values()))) for metric in METRICS}
                row["by_seed"] = [mean_dice(one) for one in by_seed[arm]]
                row |= {"seconds": read_seconds(out / name, arm, done), "cases": found["dice"]}
                row |= read_stores(out / name, arm, done)
                learns_more = arm not in LABELS_ALONE
                row["gain"] = difference(found["dice"], base["dice"]) if base and learns_more else None
                other = measured.get(over)
                row["over"] = difference(found["dice"], other["dice"]) if other and learns_more and arm != over else None
            rows.append(row)
    return rows


def write_table(rows: Sequence[Mapping[str, object]], over: str) -> str:
    """Markdown: a line for each arm that was measured, then one for the arms of a row that were not."""
    lines = ["| " + " | ".join(COLUMNS).format(over=over) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        if "dice" not in row:
            continue
        labels = f"{row['pseudo_dice']:.3f} ({row['coverage']:.0%})" if "pseudo_dice" in row else ""
        cells = [
            title(row),
            ", ".join(map(str, row["seeds"])),
            name_arm(row),
            f"{row['dice']:.3f}",
            ", ".join(f"{dice:.3f}" for dice in row["by_seed"]),
            f"{row['iou']:.3f}",
            f"{row['hd95']:.1f}",
            show(row["gain"]),
            show(row["over"]),
            labels,
            f"{row['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    missing = groupby((row for row in rows if "dice" not in row), title)
    lines += [f"| {name} | | {', '.join(str(row['arm']) for row in some)} | not run{' |' * (len(COLUMNS) - 3)}" for name, some in missing]
    return "\n".join(lines)


def name_arm(row: Mapping[str, object]) -> str:
    """The arm, and the seeds with which it accepted nothing: there its figures are those of a model without a store."""
    nothing = ", ".join(map(str, row.get("nothing_accepted", ())))
    return f"{row['arm']} (nothing accepted: seed {nothing})" if nothing else str(row["arm"])


def title(row: Mapping[str, object]) -> str:
    """'kvasir_seg-10' -> 'kvasir_seg 10 %'."""
    name, _, percent = str(row["row"]).rpartition("-")
    return f"{name} {percent} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[2, 3, 4])
    parser.add_argument("--over", default="self-training", help="the arm that the others are compared with")
    options = parser.parse_args()
    rows = measure_rows(options.out, options.seeds, options.over)
    print(write_table(rows, options.over))
    once, other = ({row["row"]: row["cases"] for row in rows if row["arm"] == arm and "cases" in row} for arm in ("once", options.over))
    pairs = [(cases, other[name]) for name, cases in once.items() if name in other]
    if pairs:
        print(f"\nonce over {options.over}, {len(pairs)} rows pooled: {show(pooled(pairs))}")
    rows = [{key: value for key, value in row.items() if key != "cases"} for row in rows]
    (options.out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
