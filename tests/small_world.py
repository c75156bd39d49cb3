"""A data set of few small images, and one of each thing that samsemi makes of it: what faults and strangers' files are tried on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builders import ACCEPT_ALL, draw_cases, write_image
from PIL import Image
from processes import run

CPU = ("--device", "cpu", "--quiet")
NETWORK = ("--size", 32, "--encoder", "tu-lcnet_035", "--decoder-channels", "16,12,8,8,8", "--batch-size", 4, "--ema", 0.8, "--lr", 0.01)
MINING = ("--batch-size", 2, "--min-area", 16, *ACCEPT_ALL)
TRAINING = ("--iterations", 8, "--validate-every", 3, "--batch-size", 2)
DISTILLING = (
    "--iterations",
    4,
    "--validate-every",
    2,
    "--batch-size",
    4,
    "--size",
    32,
    "--sam-size",
    64,
    "--mix-from",
    0.3,
    "--overlays",
    1,
)
ADAPTING = ("--iterations", 4, "--validate-every", 2, "--batch-size", 2, "--overlays", 1)


@dataclass(frozen=True)
class World:
    """Where it lies; each path by the name of what it is."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        suffix = {"store": ".h5", "cache": ".h5", "sam": ".safetensors"}.get(name, "")
        return self.root / f"{name}{suffix}"

    def commands(self) -> tuple[tuple[object, ...], ...]:
        """What makes it of images and masks."""
        shares = ("--groups", r"p(\d+)", "--labeled", 6, "--val", 3, "--test", 3)
        return (
            ("prepare", self.images, "--masks", self.masks, "--out", self.dataset, *shares, "--quiet"),
            ("warmstart", self.dataset, "--out", self.warm, *NETWORK, "--iterations", 40, *CPU),
            ("warmstart", self.dataset, "--out", self.folds, *NETWORK, "--iterations", 20, "--folds", 2, *CPU),
            ("mine", self.dataset, "--model", self.warm, "--out", self.store, "--embeddings", self.cache, *MINING, *CPU),
            ("distill", self.dataset, "--out", self.distilled, *DISTILLING, *CPU),
            ("adapt", self.dataset, "--out", self.sam, *ADAPTING, *CPU),
            ("eval", self.dataset, "--model", self.warm, "--out", self.eval, *CPU),
            ("predict", self.images, "--model", self.warm, "--out", self.predictions, *CPU),
            ("export-labels", self.store, "--out", self.labels, "--quiet"),
        )


def draw_pictures(root: Path) -> None:
    """images/ and masks/ (0/255) of 18 images of 48 x 48 and 48 x 40 pixels, of 6 patients."""
    for name, (image, mask) in draw_cases(18).items():
        size = (48, 40) if name.endswith("0") else (48, 48)
        write_image(root / "images" / f"{name}.png", np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))
        write_image(root / "masks" / f"{name}.png", np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))


def make_world(root: Path) -> World:
    """Make it below a folder, which may hold a part of it already."""
    world = World(root)
    if not world.images.exists():
        root.mkdir(parents=True, exist_ok=True)
        draw_pictures(root)
    for words in world.commands():
        out = Path(str(words[words.index("--out") + 1]))
        if not out.exists():
            ended = run(words, root, root / ".log")
            assert ended.code == 0, (words, ended.err)
    return world
