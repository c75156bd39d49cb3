"""What a SAM gains from windows around small objects, exact ones and those on the grid of `mine --zoom`; and which of its masks is better.

    python examples/tiny_sam/measure_windows.py DATASET... [--sam NAME] [--sam-checkpoint FILE] [--split val] [--images 100]

Of each image of the split the largest object of each class is prompted for by a box whose sides are moved by up to a tenth, by that box
and a point in the object and one beside it, and by a lone point. Windows that take more than LARGE of the image are the whole image.
Prints two Markdown tables: mean IoU, and the gain with its 95 % interval.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from samsemi.adaptation.prompted import decode_masks, jittered_box, largest_objects
from samsemi.data.dataset import IGNORE, read_case_image, read_case_label, read_dataset
from samsemi.metrics import overlap
from samsemi.options.sams import ZOOM
from samsemi.sam.prompts import Prompts, Window, object_points
from samsemi.sam.protocol import SamBackend, choose_masks, load_sam
from samsemi.sam.simulation import box_of
from samsemi.sam.windows import LARGE, choose_windows, crop_pixels, crop_prompts, paste_maps, round_window, zoom_window

Scores = dict[tuple[str, str, str], list[float]]
"""Window, prompts, masks -> IoU of each object."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--sam-checkpoint", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    sam = load_sam(arguments.sam, arguments.sam_checkpoint, torch.device("cpu"))
    found: Scores = defaultdict(list)
    for folder in arguments.datasets:
        measure(sam, folder, arguments.split, arguments.images, found)
    show(found)


def measure(sam: SamBackend, folder: Path, split: str, images: int, found: Scores) -> None:
    """Adds the IoU of each object of the first images of a split."""
    dataset = read_dataset(folder)
    for case in dataset.split(split)[:images]:
        image, label = read_case_image(case), read_case_label(case, case.mask, len(dataset.classes))
        for k, truth in largest_objects(label, len(dataset.classes)):
            box = jittered_box(case, k, truth)
            for name, window in windows_of(box, truth.shape):
                for key, mask in segment(sam, image, window, prompts_of(truth, box)):
                    found[name, *key].append(overlap(mask & (label != IGNORE), truth)["iou"])


def prompts_of(truth: np.ndarray, box: np.ndarray) -> dict[str, Prompts]:
    """By name, for an object (H, W) bool and its jittered box."""
    coords, labels = object_points(truth.astype(np.int32), box_of(truth)[None], 1, 1)
    lone = Prompts(None, coords[:, :1], labels[:, :1])
    return {"box": Prompts(box[None]), "box and points": Prompts(box[None], coords, labels), "lone point": lone}


def windows_of(box: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[str, Window]]:
    """The windows that are compared, by name."""
    whole = (0.0, 0.0, float(size[1]), float(size[0]))
    yield "whole image", whole
    for name, square in (("exact", False), ("exact square", True)):
        window = round_window(zoom_window(box, ZOOM, size, square))
        large = (window[2] - window[0]) * (window[3] - window[1]) > LARGE * size[0] * size[1]
        yield name, whole if large else window
    x0, y0, x1, y1 = choose_windows(box[None], ZOOM, size)[0].tolist()
    yield "on the grid", (x0, y0, x1, y1)


def segment(
    sam: SamBackend, image: np.ndarray, window: Window, prompts: dict[str, Prompts]
) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """(H, W) bool for each of the prompts, by either of SAM's masks, in a window."""
    [embedding] = sam.encode([crop_pixels(image, window)])
    for name, given in prompts.items():
        for masks in ("single", "best-of-three"):
            found = decode_masks(choose_masks(sam, masks), embedding, crop_prompts(given, window))
            yield (name, masks), paste_maps(found, window, image.shape[:2])[0]


def show(found: Scores) -> None:
    keys = dict.fromkeys(key[1:] for key in found)
    windows = dict.fromkeys(window for window, *_ in found)
    print("| mean IoU | " + " | ".join(f"{prompts}, {masks}" for prompts, masks in keys) + " |\n|" + "---|" * (len(keys) + 1))
    for window in windows:
        print(f"| {window} | " + " | ".join(f"{np.mean(found[window, *key]):.3f}" for key in keys) + " |")
    print("\n| gain | objects | mean |\n|---|---|---|")
    for prompts, masks in keys:
        for window in list(windows)[1:]:
            gain(f"{window} over whole image: {prompts}, {masks}", found[window, prompts, masks], found["whole image", prompts, masks])
    for prompts in dict.fromkeys(prompts for prompts, _ in keys):
        gain(f"single over best-of-three: {prompts}, on the grid", *(found["on the grid", prompts, m] for m in ("single", "best-of-three")))


def gain(name: str, better: list[float], base: list[float]) -> None:
    difference = np.array(better) - np.array(base)
    print(f"| {name} | {len(difference)} | {difference.mean():+.3f} ± {1.96 * difference.std(ddof=1) / len(difference) ** 0.5:.3f} |")


if __name__ == "__main__":
    main()
