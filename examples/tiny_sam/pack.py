"""Real images with object masks, decoded once into memory-mapped arrays, for `stream.py`.

    python examples/tiny_sam/pack.py FOLDER OUT

FOLDER has a folder for each set, with images/NAME.jpg and masks/NAME.png (instance numbers from 1, or 0/255). OUT gets pixels.u8,
numbers.u16 and index.json, and of the held-out sources images/ and masks/ for `samsemi prepare`: each image, with the mask of one
random object of it, as a whole and again as a crop around that object.
"""

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samsemi.sam.simulation import box_of, move_box
from samsemi.sam.windows import crop_image, crop_mask, zoom_window

SINGLE = ("axon_sem", "coco128", "coco_mini", "dsb2018_nuclei", "feral_cat", "hc18_fetal_head", "oxford_pet", "voc2007")
"""Sets of one source; in the others the source is the beginning of a file's name."""
HELD_OUT = {
    ("mixed_science", "Augmented-Spleen"),  # CT
    ("mixed_science", "Prostate-Cancer-MRI"),
    ("medical", "carotid"),  # ultrasound
    ("medical", "glomeruli"),  # histology
    ("mixed_science", "Foveal-Avascular-Zone"),  # retina
    ("polygons", "2D"),  # light microscopy
    ("satellite", "sichuan"),  # landslides from the air
    ("nature", "eggplant"),
    ("voc2007", "voc2007"),  # everyday photographs
}
"""Set and source of what is never trained on, to choose between recipes and weights."""
EXHAUSTIVE = {
    *("dsb2018_nuclei", "hc18_fetal_head", "axon_sem", "microscopy"),
    *("household/facade", "household/dhcn", "satellite/buildings", "satellite/f3"),
}
"""Sets, or a set's sources, in which a place without a mask is ground: not those of pets (on sofas) nor of one organ among others."""
MIN_SHARE = 0.005
"""Least share of the image that a held-out object has."""
CROP_SIDE = 128  # px, longest side of a held-out crop


@dataclass(frozen=True)
class Entry:
    """An image among the packed ones."""

    set: str
    source: str
    name: str
    held_out: bool
    exhaustive: bool
    """Whether every object of it has a mask."""
    height: int
    width: int
    offset: int
    """Pixels before it."""

    @property
    def pixels(self) -> slice:
        return slice(self.offset, self.offset + self.height * self.width)


class Packed:
    """The packed images of a folder."""

    def __init__(self, folder: Path):
        self.entries = [Entry(**row) for row in json.loads((folder / "index.json").read_text())]
        self.pixels = np.memmap(folder / "pixels.u8", np.uint8, "r").reshape(-1, 3)
        self.numbers = np.memmap(folder / "numbers.u16", np.uint16, "r")

    def read(self, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 and instance numbers (H, W) uint16."""
        size = entry.height, entry.width
        return self.pixels[entry.pixels].reshape(*size, 3), self.numbers[entry.pixels].reshape(size)


def list_images(folder: Path) -> Iterator[tuple[str, str, Path, Path]]:
    """Set, source, image and mask, by name."""
    for images in sorted(folder.glob("*/images")):
        name = images.parent.name
        for path in sorted(images.glob("*.jpg")):
            yield name, name if name in SINGLE else path.stem.split("_")[0], path, images.parent / "masks" / f"{path.stem}.png"


def read_pair(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and instance numbers (H, W) uint16 from 1."""
    numbers = np.asarray(Image.open(mask))
    if set(np.unique(numbers)) <= {0, 255}:
        numbers = numbers > 0
    return np.asarray(Image.open(image).convert("RGB")), numbers.astype(np.uint16)


def pack(folder: Path, out: Path) -> None:
    """Write the arrays and their index."""
    entries, offset = [], 0
    with open(out / "pixels.u8", "wb") as pixels, open(out / "numbers.u16", "wb") as instances:
        for name, source, image_file, mask_file in list_images(folder):
            image, numbers = read_pair(image_file, mask_file)
            if image.shape[:2] != numbers.shape or not numbers.any():
                print(f"left out: {image_file} {image.shape} {numbers.shape}")
                continue
            exhaustive = name in EXHAUSTIVE or f"{name}/{source}" in EXHAUSTIVE
            entries.append(Entry(name, source, image_file.stem, (name, source) in HELD_OUT, exhaustive, *numbers.shape, offset))
            pixels.write(image.tobytes())
            instances.write(numbers.tobytes())
            offset += numbers.size
    (out / "index.json").write_text(json.dumps([asdict(entry) for entry in entries]))


def write_held_out(out: Path) -> None:
    """Of each held-out image one random object, 255 in its mask: NAME.png as a whole, NAME.zoom.png around a box that is a little off."""
    packed = Packed(out)
    for name in ("images", "masks"):
        (out / name).mkdir(exist_ok=True)
    for entry in packed.entries:
        if entry.held_out:
            rng = np.random.default_rng(zlib.crc32(f"{entry.set}/{entry.name}".encode()))
            image, numbers = packed.read(entry)
            areas = np.bincount(numbers.ravel())[1:]
            large = np.flatnonzero(areas >= MIN_SHARE * numbers.size)
            if not len(large):
                continue
            mask = numbers == 1 + rng.choice(large)
            box = move_box(rng, box_of(mask), 0.1, mask.shape)
            window = zoom_window(box, rng.uniform(1.3, 2.2), mask.shape)
            name = f"{entry.source}_{entry.name}"
            save_pair(out, name, image, mask)
            save_pair(out, f"{name}.zoom", crop_image(image, window, CROP_SIDE), crop_mask(mask, window, CROP_SIDE))


def save_pair(out: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    Image.fromarray(image).save(out / "images" / f"{name}.png")
    Image.fromarray(np.uint8(255) * mask).save(out / "masks" / f"{name}.png")


def main() -> None:
    folder, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    pack(folder, out)
    write_held_out(out)


if __name__ == "__main__":
    main()
