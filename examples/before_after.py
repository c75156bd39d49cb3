"""One picture of what a pipeline brought: python examples/before_after.py OUT DATASET

A row per test case, from the greatest change of Dice down: image, truth, warm start, mined. Written to OUT/before_after.png.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from samsemi.data.dataset import read_case_image, read_case_label, read_dataset
from samsemi.data.images import write_picture
from samsemi.mining.pictures import picture_comparison
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import predict, to_label

ROWS = 6


def main() -> None:
    out = Path(sys.argv[1])
    after = "mined"
    dataset = read_dataset(sys.argv[2])
    before, then = read_dice(out / "eval-warm"), read_dice(out / f"eval-{after}")
    common = before.keys() & then.keys()
    names = sorted(common, key=lambda name: -abs(then[name] - before[name]))[:ROWS]
    models = [load_model(out / run) for run in ("warm", after)]
    rows = []
    for name in names:
        case = dataset.cases[name]
        image = read_case_image(case)
        labels = {"truth": read_case_label(case, case.mask, len(dataset.classes))}
        labels |= {name: to_label(predict(model, image)) for name, model in zip(("warm start", after), models, strict=True)}
        rows.append(picture_comparison(case.id, image, labels, dataset.classes))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_picture(out / "before_after.png", np.concatenate(rows))
    mean = [float(np.mean([scores[name] for name in common])) for scores in (before, then)]
    print(f"\ntest Dice before {mean[0]:.3f}, after mining {mean[1]:.3f}")
    print(f"picture (image, truth, before, after): {out / 'before_after.png'}")
    print(f"what SAM was asked and answered:       {out / 'sam.h5.overlays'}")
    print(f"runs, store, evaluations:              {out}")


def read_dice(folder: Path) -> dict[str, float]:
    """Mean Dice over the classes of each case."""
    scores: dict[str, list[float]] = {}
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["id"], []).append(float(row["dice"] or "nan"))
    return {name: float(np.nanmean(values)) for name, values in scores.items() if not np.isnan(values).all()}


if __name__ == "__main__":
    main()
