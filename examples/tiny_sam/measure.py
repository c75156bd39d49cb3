"""How well a SAM segments what it is prompted for on images that it has never seen, as a whole and by crops around the box (zoom).

    python examples/tiny_sam/measure.py FOLDER... [--sam NAME] [--sam-checkpoint FILE] [--zoom F ...]

Each FOLDER has images/ and masks/. Of each, 100 random images are measured by `samsemi adapt --evaluate`, and the same objects in
crops of F times their box; prints a Markdown table.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import samsemi
from samsemi.adaptation.prompted import decode_masks, jittered_box, largest_objects
from samsemi.data.dataset import IGNORE, Case, read_case_image, read_case_label, read_dataset
from samsemi.metrics import overlap
from samsemi.sam.prompts import Prompts
from samsemi.sam.protocol import SamBackend, load_sam
from samsemi.sam.simulation import box_of
from samsemi.sam.windows import zoom_window

COLUMNS = ("box", "ellipse", "full_box", "jittered_box", "jittered_ellipse", "point", "box_point")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--sam-checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--zoom", type=float, nargs="*", default=[1.5, 2.0], help="Times the box.")
    arguments = parser.parse_args()
    columns = (*COLUMNS, *(f"{name}_zoom_{factor:g}" for factor in arguments.zoom for name in ("box", "jittered_box")))
    print("| set | " + " | ".join(name.replace("_", " ") for name in columns) + " |\n|" + "---|" * (len(columns) + 1))
    means = []
    for folder in arguments.folders:
        found = measure(folder, arguments.sam, arguments.sam_checkpoint, arguments.images, arguments.zoom)
        means.append(found)
        for name, row in {folder.name: found, **{f"{folder.name}: {k}": v for k, v in found.get("by_class", {}).items()}}.items():
            print_row(name, row, columns)
    mean = {name: np.mean([row[name] for row in means]) for name in columns if all(name in row for row in means)}
    print_row("mean over sets", mean, columns)


def measure(folder: Path, sam: str, checkpoint: Path | None, images: int, zoom: Sequence[float]) -> dict:
    """Scores of a SAM on random images of a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        samsemi.prepare(images=folder / "images", masks=folder / "masks", out=data, labeled=2, val=2, test=images)
        found = samsemi.adapt(dataset=data, sam=sam, sam_checkpoint=checkpoint, evaluate=True, split="test")
        backend = load_sam(sam, checkpoint, torch.device("cpu"), "fp32")
        dataset = read_dataset(data)
        return {**found, **measure_zoom(backend, dataset.split("test"), dataset.classes, zoom)}


def measure_zoom(sam: SamBackend, cases: Sequence[Case], classes: Sequence[str], factors: Sequence[float]) -> dict[str, float]:
    """Mean IoU over the objects and boxes of `adapt --evaluate`, each seen in a crop around the box it is prompted by."""
    scores: dict[str, list[float]] = {}
    for case in cases:
        image, label = read_case_image(case), read_case_label(case, case.mask, len(classes))
        for k, truth in largest_objects(label, len(classes)):
            for name, box in (("box", box_of(truth)), ("jittered_box", jittered_box(case, k, truth))):
                for factor in factors:
                    mask = segment_zoomed(sam, image, box, factor)
                    scores.setdefault(f"{name}_zoom_{factor:g}", []).append(overlap(mask & (label != IGNORE), truth)["iou"])
    return {name: float(np.mean(found)) for name, found in scores.items()}


def segment_zoomed(sam: SamBackend, image: np.ndarray, box: np.ndarray, factor: float) -> np.ndarray:
    """(H, W) bool: what SAM segments by a box in a crop of ``factor`` times the box; nothing outside the crop."""
    x0, y0, x1, y1 = (round(float(place)) for place in zoom_window(box, factor, image.shape[:2]))
    [embedding] = sam.encode([np.ascontiguousarray(image[y0:y1, x0:x1])])
    found = np.zeros(image.shape[:2], dtype=bool)
    found[y0:y1, x0:x1] = decode_masks(sam, embedding, Prompts(boxes=(box - [x0, y0, x0, y0])[None].astype(np.float32)))[0]
    return found


def print_row(name: str, row: dict, columns: Sequence[str]) -> None:
    print(f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key in row else "" for key in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
