"""What a store of many images takes: disk, memory, open files and processor time, by stores of drawn objects with made-up scores.

    python examples/store_scale.py 1000 3000 --tables 1000000

No SAM and no network is needed. Every image has two objects; maps have the sizes of `--sam tiny` and a network of 256 px. The difference
between the two stores, per image, times a million is what a million images take. What a reader does with the tables alone is measured at
full length: maps that were never written take no room.
"""

import argparse
import json
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from samsemi.mining.policy import Policy
from samsemi.mining.pseudolabels import usable_ids
from samsemi.mining.scores import COLUMNS
from samsemi.mining.store import HASHES, IMAGE_ROW, OBJECT_ROW, STORED, Mined, Provenance, Store
from samsemi.mining.store_tables import Shape, create
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
    store = Store(writer.path)
    with measured(found, "read"):
        for name in names[:: count // 100]:
            store.read(name)
    found["read_ms"] = 10 * found.pop("read_cpu")
    return found


def measure_tables(count: int, folder: Path) -> dict[str, float]:
    """Open a store of so many images, of which only the tables are written, and decide what is learned from."""
    path, mined = folder / "s.h5", draw(0)
    images, objects = np.zeros(count, IMAGE_ROW), np.zeros(count * OBJECTS, OBJECT_ROW)
    images["id"] = [f"{number:09d}" for number in range(count)]
    images["first_object"] = np.arange(count) * OBJECTS
    for name, value in {"height": IMAGE, "width": IMAGE, "num_objects": OBJECTS, "readable": True}.items():
        images[name] = value
    objects["image"] = np.repeat(np.arange(count), OBJECTS)
    for name, column in STORED.items():
        objects[column] = np.tile(getattr(mined, name), (count, *[1] * (getattr(mined, name).ndim - 1)))
    with h5py.File(path, "w") as file:
        create(file, Provenance({}, {}, Policy().to_json()), count, len(objects), Shape(MASK, 2, CLASSES, MAP))
        file["images"][:], file["objects"][:] = images, objects
        file[HASHES][:] = np.array([f"{number:064x}" for number in range(count)], "S64")
    del images, objects
    found: dict[str, float] = {"images": count, "tables_bytes": path.stat().st_size}
    before = resident()
    with measured(found, "open"):
        store = Store(path)
    found["resident_bytes"] = resident() - before
    with measured(found, "usable"):
        assert len(usable_ids(store, Policy(min_confidence=0, min_predicted_iou=0, min_stability=0, min_agreement=0))) == count
    found["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int, nargs="*")
    parser.add_argument("--tables", type=int, nargs="*", default=[])
    given = parser.parse_args()
    for function, counts in ((measure, given.images), (measure_tables, given.tables)):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps({name: round(value, 4) for name, value in function(count, Path(folder)).items()}), flush=True)


if __name__ == "__main__":
    main()
