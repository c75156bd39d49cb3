"""Pictures where people look rather than read: what was mined, what was predicted, beside the image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from samsemi.data.dataset import Dataset, read_case_image
from samsemi.data.images import overlay, side_by_side, write_picture
from samsemi.mining.policy import Policy, decide
from samsemi.mining.pseudolabels import mined_label
from samsemi.mining.scores import REASONS
from samsemi.mining.store import Mined, Store

ACCEPTED, REJECTED = (90, 220, 90), (255, 70, 70)
POSITIVE, NEGATIVE = (90, 220, 90), (255, 70, 70)


def draw_mined(store: Store, dataset: Dataset, policy: Policy, count: int) -> Path:
    """``count`` pictures of mined images, evenly spread over the store, in STORE.overlays/ID.png.

    From left to right: image; the model's mask; boxes (green accepted, red rejected) and points that SAM was given;
    the accepted masks of SAM.
    """
    folder = store.path.with_name(store.path.name + ".overlays")
    found = [name for name in store.ids if store.images[store.row[name]]["num_objects"] > 0]
    for i in np.unique(np.linspace(0, len(found) - 1, min(count, len(found)), dtype=int)) if found else []:
        name = found[i]
        image = read_case_image(dataset.cases[name])
        mined = store.read(name)
        asked = asking_label(mined)
        answer = mined_label(mined, policy, len(dataset.classes))
        prompted = draw_prompts(overlay(image, asked), mined, store.read_points(name), decide(mined, policy))
        write_picture(folder / f"{name}.png", side_by_side([image, overlay(image, asked), prompted, overlay(image, answer)]))
    return folder


def asking_label(mined: Mined) -> np.ndarray:
    """(H, W) uint8 class map of the objects that asked."""
    label = np.zeros(mined.image_size, dtype=np.uint8)
    for class_id, prior in zip(mined.class_id, mined.prior, strict=True):
        inside = np.asarray(Image.fromarray(prior).resize(mined.image_size[::-1], Image.Resampling.BILINEAR)) > 127
        label[inside] = class_id
    return label


def draw_prompts(picture: np.ndarray, mined: Mined, points: tuple[np.ndarray, np.ndarray], decision: np.ndarray) -> np.ndarray:
    """Boxes in the color of the decision, points in that of their label, and the first reason of a rejection."""
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    radius = max(2, min(picture.shape[:2]) // 100)
    for i, (x0, y0, x1, y1) in enumerate(mined.boxes):
        color = REJECTED if decision[i] else ACCEPTED
        pen.rectangle((x0, y0, x1, y1), outline=color, width=max(1, radius // 2))
        if decision[i]:
            pen.text((x0 + 2, y0 + 1), REASONS[decision[i]], fill=color)
        for (x, y), label in zip(points[0][i], points[1][i], strict=True):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=POSITIVE if label else NEGATIVE, outline=(255, 255, 255))
    return np.asarray(canvas)


def draw_comparison(folder: Path, name: str, image: np.ndarray, labels: Mapping[str, np.ndarray]) -> None:
    """folder/NAME.png: the image, then each label map laid over it."""
    write_picture(folder / f"{name}.png", side_by_side([image, *(overlay(image, label) for label in labels.values())]))
