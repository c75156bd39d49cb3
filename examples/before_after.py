"""One picture of what a pipeline brought: python examples/before_after.py OUT DATASET

A row per test case, from the greatest change of Dice down: image, truth, warm start, mined once; captions hold each Dice. Written to
OUT/before_after.png.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from summary import read_dice

from samsemi.data.dataset import Case, Dataset, read_case_image, read_case_label, read_dataset
from samsemi.data.images import overlay, side_by_side, write_picture
from samsemi.segmenters.checkpoints import load_model
from samsemi.segmenters.segmenter import Segmenter, predict, to_label

ROWS = 6
ARMS = {"warm": "warm start", "once": "mined once"}
"""Arm -> caption."""
CELL = 256
"""Width in pixels of one image with its caption."""


def main() -> None:
    out, dataset = Path(sys.argv[1]), read_dataset(sys.argv[2])
    dice = {arm: read_dice(out / f"eval-{arm}") for arm in ARMS}
    common = dice["warm"].keys() & dice["once"].keys()
    names = sorted(common, key=lambda name: (-abs(dice["once"][name] - dice["warm"][name]), name))[:ROWS]
    models = [load_model(out / arm) for arm in ARMS]
    rows = [draw_row(dataset, dataset.cases[name], models, [dice[arm][name] for arm in ARMS]) for name in names]
    write_picture(out / "before_after.png", np.concatenate(rows))
    means = [float(np.mean([dice[arm][name] for name in common])) for arm in ARMS]
    print(f"\nTest Dice of the warm start {means[0]:.3f}, after mining {means[1]:.3f}.")
    print(f"picture (image, truth, before, after): {out / 'before_after.png'}")
    print(f"SAM's prompts and masks:               {out / 'once.h5.overlays'}")
    print(f"runs, stores, evaluations:             {out}")


def draw_row(dataset: Dataset, case: Case, models: list[Segmenter], scores: list[float]) -> np.ndarray:
    """(H, W, 3) uint8: the image four times, with the masks drawn on it."""
    image = read_case_image(case)
    labels = [read_case_label(case, case.mask, len(dataset.classes)), *(to_label(predict(model, image)) for model in models)]
    captions = [case.id, "truth", *(f"{name}: Dice {score:.2f}" for name, score in zip(ARMS.values(), scores, strict=True))]
    pictures = [image, *(overlay(image, label) for label in labels)]
    return side_by_side([caption(picture, text) for picture, text in zip(pictures, captions, strict=True)])


def caption(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture, CELL wide, below a white line of text."""
    height = round(CELL * picture.shape[0] / picture.shape[1])
    cell = Image.new("RGB", (CELL, height + 24), "white")
    cell.paste(Image.fromarray(picture).resize((CELL, height), Image.Resampling.BICUBIC), (0, 24))
    ImageDraw.Draw(cell).text((4, 4), text, fill="black", font=ImageFont.load_default(14))
    return np.asarray(cell)


if __name__ == "__main__":
    main()
