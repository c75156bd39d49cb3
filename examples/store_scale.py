"""What a store of many images takes: disk, memory, open files and processor time, by stores of drawn objects with made-up scores.

    python examples/store_scale.py 1000 3000

No SAM and no network is needed. Every image has two objects; maps have the sizes of `--sam tiny` and a network of 256 px. The difference
between the two stores, per image, times a million is what a million images take.
"""

import json
import os
import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import usable_ids
from samsemi.mining.scores import COLUMNS
from samsemi.mining.store import Mined, Provenance, Store
from samsemi.mining.store_writer import StoreWriter, find_parts
from samsemi.sam.prompts import Prompts

PER_PART, OBJECTS, CLASSES, MASK, MAP, IMAGE = 8, 2, 2, 64, 256, 512
DRAWN = 32
"""Different images, which come again and again."""


def draw(seed: int) -> Mined:
    """Two soft disks, and scores that are as good as any."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0.1, 0.5, (OBJECTS, 2)) * IMAGE
    boxes = np.concatenate([corners, corners + rng.uniform(0.15, 0.4, (OBJECTS, 2)) * IMAGE], axis=1).astype(np.float32)
    maps = np.stack([soft_disk(box, MAP, rng) for box in boxes])
    foreground = maps.max(axis=0)
    return Mined(
        image_size=(IMAGE, IMAGE),
        class_id=np.ones(OBJECTS, np.uint8),
        boxes=boxes,
        prompt_boxes=boxes,
        windows=np.tile(np.array([0, 0, IMAGE, IMAGE], np.float32), (OBJECTS, 1)),
        area=rng.integers(100, 9999, OBJECTS),
        probs=np.stack([soft_disk(box, MASK, rng) for box in boxes]),
        network_probs=np.stack([255 - foreground, foreground]),
        components=np.where(foreground > 127, maps.argmax(axis=0) + 1, 0).astype(np.uint16),
        **{name: rng.uniform(0.5, 1, OBJECTS).astype(np.float32) for name in COLUMNS},
    )


def soft_disk(box: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) uint8: a probability that falls off at the rim, uneven as those of networks are."""
    y, x = np.mgrid[:side, :side] * (IMAGE / side)
    middle, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    inside = 1 - np.hypot((x - middle[0]) / radius[0], (y - middle[1]) / radius[1])
    return np.rint(255 / (1 + np.exp(-8 * inside + rng.normal(0, 0.05, inside.shape)))).astype(np.uint8)


@contextmanager
def measured(found: dict[str, float], name: str):
    """Note the processor's and the clock's seconds of what is done within."""
    cpu, wall = time.process_time(), time.monotonic()
    yield
    found[f"{name}_cpu"], found[f"{name}_wall"] = time.process_time() - cpu, time.monotonic() - wall


def measure(count: int, folder: Path) -> dict[str, float]:
    """Write, join and read a store of so many images."""
    drawn = [draw(seed) for seed in range(DRAWN)]
    prompts = [Prompts(mined.boxes, np.zeros((OBJECTS, 2, 2), np.float32), np.ones((OBJECTS, 2), np.int32)) for mined in drawn]
    names = [f"{number:09d}" for number in range(count)]
    found: dict[str, float] = {"images": count}
    writer = StoreWriter(folder / "s.h5", Provenance({}, {}, Policy().to_json()), MASK, 2, CLASSES, map_size=MAP)
    with measured(found, "write"):
        for number in range(0, count, PER_PART):
            for i in range(number, min(number + PER_PART, count)):
                writer.add(names[i], (IMAGE, IMAGE), drawn[i % DRAWN], prompts[i % DRAWN], f"{i:064x}")
            writer.commit(number // PER_PART)
    found["parts_bytes"] = sum(part.stat().st_size for part in find_parts(writer.path))
    with measured(found, "look"):
        find_parts(writer.path)
    own, writer.own = writer.own, set()
    with measured(found, "read_through"):  # where other commands have mined them, in shares or before an interruption
        writer.check(find_parts(writer.path), names)
    writer.own = own
    with measured(found, "finish"):
        writer.finish(names)
    found["store_bytes"] = writer.path.stat().st_size
    before = resident()
    with measured(found, "open"):
        store = Store(writer.path)
    found["resident_bytes"] = resident() - before
    policy = Policy(min_confidence=0, min_predicted_iou=0, min_stability=0, min_agreement=0)
    with measured(found, "usable"):
        assert len(usable_ids(store, policy)) == count
    with measured(found, "read"):
        for name in names[:: count // 100]:
            store.read(name)
    found["read_ms"] = 10 * found.pop("read_cpu")
    found["open_files"], found["peak_bytes"] = len(os.listdir("/proc/self/fd")), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({name: round(value, 4) for name, value in measure(count, Path(folder)).items()}), flush=True)


if __name__ == "__main__":
    main()
