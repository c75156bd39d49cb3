"""Pictures to look at: what was mined, and what was predicted, next to the image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from samsemi.data.dataset import Dataset, read_case_image
from samsemi.data.overlays import Panel, class_keys, draw_box, draw_point, draw_row, enlarge, line_width, outline, zoom_of
from samsemi.data.pictures import write_picture
from samsemi.metrics import dice_score
from samsemi.mining.composition import network_map
from samsemi.mining.policy import Policy, decide
from samsemi.mining.pseudolabels import mined_label
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined, Store

ACCEPTED, REJECTED = (140, 255, 110), (255, 130, 110)
TRUTH = "truth"
"""The label map of a comparison by which the others are measured."""


def overlays_of(store: Path) -> Path:
    """The folder of the pictures of a store."""
    return store.with_name(store.name + ".overlays")


def draw_mined(store: Store, dataset: Dataset, policy: Policy, count: int) -> Path:
    """``count`` pictures of mined images, evenly spread over the store, in STORE.overlays/ID.png.

    From left to right: image; the model's mask; boxes and points that SAM was given; the accepted masks of SAM.
    """
    folder = overlays_of(store.path)
    found = [name for name in store.ids if store.images[store.row[name]]["num_objects"] > 0]
    for i in np.unique(np.linspace(0, len(found) - 1, min(count, len(found)), dtype=int)) if found else []:
        write_picture(folder / f"{found[i]}.png", picture_mined(found[i], store, dataset, policy))
    return folder


def picture_mined(name: str, store: Store, dataset: Dataset, policy: Policy) -> np.ndarray:
    """The row of one image."""
    image, mined = read_case_image(dataset.cases[name]), store.read(name)
    decision, points = decide(mined, policy), store.read_points(name)
    given, kept = prompting_label(mined, len(dataset.classes)), mined_label(mined, policy, len(dataset.classes))
    words = (("accepted", ACCEPTED, decision == 0), ("rejected", REJECTED, decision > 0))
    keys = [(word, color) for word, color, where in words if where.any()]
    panels = [
        Panel(enlarge(image), "image"),
        Panel(outline(image, given), "U-Net++", class_keys(given, dataset.classes)),
        Panel(draw_prompts(image, mined, points, decision), "prompts" + (" (+ in, x out)" if points[1].size else ""), keys),
        Panel(outline(image, kept), f"SAM, {int((decision == 0).sum())} of {len(mined)} accepted", class_keys(kept, dataset.classes)),
    ]
    return draw_row(name, panels)


def prompting_label(mined: Mined, num_classes: int, shape: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W) uint8 class map of the objects that SAM was prompted with, at the size of the image or on another grid over it."""
    network = network_map(mined, num_classes, shape or mined.image_size)
    return np.where(network.components > 0, network.probs.argmax(axis=0), 0).astype(np.uint8)


def draw_prompts(image: np.ndarray, mined: Mined, points: tuple[np.ndarray, np.ndarray], decision: np.ndarray) -> np.ndarray:
    """The enlarged image with boxes and points in the color of the decision, and the first reason of a rejection."""
    canvas, zoom = Image.fromarray(enlarge(image)), zoom_of(image.shape[0])
    pen, width = ImageDraw.Draw(canvas), line_width(np.asarray(canvas))
    for i, box in enumerate(mined.boxes):
        color = REJECTED if decision[i] else ACCEPTED
        draw_box(pen, zoom * box, color, width, REASONS[decision[i]] if decision[i] else "")
        for at, label in zip(points[0][i], points[1][i], strict=True):
            draw_point(pen, tuple(zoom * at), bool(label), color, width)
    return np.asarray(canvas)


def draw_comparison(path: Path, name: str, image: np.ndarray, labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Write the picture of ``picture_comparison`` as PNG."""
    write_picture(path, picture_comparison(name, image, labels, classes))


def picture_comparison(name: str, image: np.ndarray, labels: Mapping[str, np.ndarray], classes: Sequence[str]) -> np.ndarray:
    """The image of a case, then each label map on it; where the truth is among them, each other one with its mean Dice."""
    panels = [Panel(enlarge(image), "image")]
    for what, label in labels.items():
        measured = f", Dice {dice_score(label, labels[TRUTH], len(classes)):.3f}" if TRUTH in labels and what != TRUTH else ""
        panels.append(Panel(outline(image, label), what + measured, class_keys(label, classes)))
    return draw_row(name, panels)
