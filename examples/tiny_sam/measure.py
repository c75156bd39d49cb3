"""How well a SAM segments what it is prompted for on images that it has never seen: the whole image and crops around the box (zoom).

    python examples/tiny_sam/measure.py FOLDER... [--sam NAME] [--sam-checkpoint FILE] [--zoom F,F...] [--images N] [--labeled N]
        [--groups REGEX]

Each FOLDER has images/ and masks/. Of each, random images are measured by `samsemi adapt --evaluate`; prints its scores as a Markdown
table, and as another the probe of the embedding, fitted to other images (`--labeled`), beside random weights.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import samsemi

COLUMNS = ("box", "ellipse", "full_box", "jittered_box", "jittered_ellipse", "point", "box_point")
ZOOMED = ("box", "jittered_box", "box_point")
PROBE = ("auc", "random_auc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--sam-checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=100, help="Of each set to measure.")
    parser.add_argument("--labeled", type=int, default=48, help="Of each set to fit the probe to.")
    parser.add_argument("--groups", help="As for `samsemi prepare`: else images of one patient may be fitted to and measured.")
    parser.add_argument("--zoom", default="1.5,2", help="Times the box.")
    arguments = parser.parse_args()
    rows, probes = {}, {}
    for folder in arguments.folders:
        found = measure(folder, arguments)
        rows[folder.name] = found
        rows |= {f"{folder.name}: {name}": scores for name, scores in found.get("by_class", {}).items()}
        probes |= {f"{folder.name}: {name}": aucs for name, aucs in found.get("probe", {}).items()}
    zoomed = [f"{name}_zoom_{factor.strip()}" for factor in arguments.zoom.split(",") for name in ZOOMED]
    columns = [*COLUMNS, *zoomed]
    means = [rows[folder.name] for folder in arguments.folders]
    rows["mean over sets"] = {name: np.mean([row[name] for row in means]) for name in columns if all(name in row for row in means)}
    print_table(rows, columns)
    if probes:
        print_table(probes, PROBE)


def measure(folder: Path, arguments: argparse.Namespace) -> dict:
    """What `samsemi adapt --evaluate` measures on random images of a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        samsemi.prepare(
            images=folder / "images",
            masks=folder / "masks",
            out=data,
            groups=arguments.groups,
            labeled=arguments.labeled,
            val=2,
            test=arguments.images,
        )
        return samsemi.adapt(
            dataset=data,
            sam=arguments.sam,
            sam_checkpoint=arguments.sam_checkpoint,
            evaluate=True,
            split="test",
            zoom=arguments.zoom,
            probe=max(arguments.images, arguments.labeled),
        )


def print_table(rows: Mapping[str, Mapping], columns: Sequence[str]) -> None:
    print("| set | " + " | ".join(name.replace("_", " ") for name in columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.3f}" if key in row else "" for key in columns) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
