"""How well a SAM answers prompts on images it has never seen.

    python examples/tiny_sam/measure.py FOLDER... [--sam NAME] [--sam-checkpoint FILE]

Each FOLDER has images/ and masks/. Of each, 100 random images are measured by `samsemi adapt --evaluate`; prints a Markdown table.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import samsemi

COLUMNS = ("box", "ellipse", "full_box", "jittered_box", "jittered_ellipse", "point", "box_point")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--sam-checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    print("| set | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    means = []
    for folder in arguments.folders:
        found = measure(folder, arguments.sam, arguments.sam_checkpoint, arguments.images)
        means.append(found)
        for name, row in {folder.name: found, **{f"{folder.name}: {k}": v for k, v in found.get("by_class", {}).items()}}.items():
            print_row(name, row)
    print_row("mean over sets", {name: np.mean([row[name] for row in means]) for name in COLUMNS if all(name in row for row in means)})


def measure(folder: Path, sam: str, checkpoint: Path | None, images: int) -> dict:
    """Scores of a SAM on random images of a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        samsemi.prepare(images=folder / "images", masks=folder / "masks", out=data, labeled=2, val=2, test=images)
        return samsemi.adapt(dataset=data, sam=sam, sam_checkpoint=checkpoint, evaluate=True, split="test")


def print_row(name: str, row: dict) -> None:
    print(f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key in row else "" for key in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
