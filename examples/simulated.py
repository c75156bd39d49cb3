"""The share of labels that a simulation uses: python examples/simulated.py FOLDER prints options of `samsemi prepare`.

Only where all of FOLDER/images have a mask in FOLDER/masks can some be hidden; otherwise nothing is printed, and every mask is used.
"""

import sys
from pathlib import Path

from samsemi.data.layouts.table import LAYOUTS, detect_layout


def main() -> None:
    images, masks = (Path(sys.argv[1]) / name for name in ("images", "masks"))
    found = LAYOUTS[detect_layout(images, masks)].find(images, masks)
    if all(case.mask for case in found.cases):
        print("--labeled 0.1")


if __name__ == "__main__":
    main()
