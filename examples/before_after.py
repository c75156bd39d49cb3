"""One picture of what a pipeline brought: python examples/before_after.py OUT DATASET

A row per test case, from the greatest change of Dice down: image, truth, warm start, mined once; captions hold each Dice. Written to
OUT/before_after.png.
"""

import sys
from pathlib import Path

import numpy as np
from step import stand_in
from summary import read_dice

from samsemi.data.dataset import Case, Dataset, read_case_image, read_case_label, read_dataset
from samsemi.data.pictures import write_picture
from samsemi.mining.pictures import picture_comparison
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import Segmenter, predict_image, to_label

ROWS = 6
ARMS = {"warm": "warm start", "once": "mined once"}
"""Arm -> caption."""


def main() -> None:
    out, dataset = Path(sys.argv[1]), read_dataset(Path(sys.argv[2]))
    dice = {arm: read_dice(out / f"eval-{arm}") for arm in ARMS}
    common = dice["warm"].keys() & dice["once"].keys()
    names = sorted(common, key=lambda name: (-abs(dice["once"][name] - dice["warm"][name]), name))[:ROWS]
    models = [load_model(out / (stand_in(out, arm) or arm)) for arm in ARMS]
    rows = [draw_row(dataset, dataset.cases[name], models) for name in names]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_picture(out / "before_after.png", np.concatenate(rows))
    means = [float(np.mean([dice[arm][name] for name in common])) for arm in ARMS]
    mined = "of labeled-only, since mining accepted nothing," if stand_in(out, "once") else "after mining"
    print(f"\nTest Dice of the warm start {means[0]:.3f}, {mined} {means[1]:.3f}.")
    print(f"picture (image, truth, before, after): {out / 'before_after.png'}")
    print(f"SAM's prompts and masks:               {out / 'once.h5.overlays'}")
    print(f"runs, stores, evaluations:             {out}")


def draw_row(dataset: Dataset, case: Case, models: list[Segmenter]) -> np.ndarray:
    """(H, W, 3) uint8: the image four times, with the masks drawn on it and their Dice in the captions."""
    image = read_case_image(case)
    labels = {"truth": read_case_label(case, case.mask, len(dataset.classes))}
    labels |= {name: to_label(predict_image(model, image)) for name, model in zip(ARMS.values(), models, strict=True)}
    return picture_comparison(case.id, image, labels, dataset.classes)


if __name__ == "__main__":
    main()
