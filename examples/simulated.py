"""The share of labels that a simulation uses: python examples/simulated.py FOLDER prints options of `samsemi prepare`.

Only where all of FOLDER/images have a mask in FOLDER/masks can some be hidden; otherwise nothing is printed, and every mask is used.
"""

import sys
from pathlib import Path

from samsemi.data.layouts.given import Given
from samsemi.data.layouts.table import LAYOUTS, choose_layout


def main() -> None:
    images, masks = (Path(sys.argv[1]) / name for name in ("images", "masks"))
    name, given = choose_layout(Given((images,), masks))
    found = LAYOUTS[name].find(given)
    if all(case.mask for case in found.cases):
        print("--labeled 0.1")


if __name__ == "__main__":
    main()
