"""What `mine` costs per image as the number of images grows, as Markdown: images per second, memory, and reading an image's labels.

    OMP_NUM_THREADS=1 python examples/linear_cost.py OUT --images 200 1000 5000

Draws forty images of four objects, trains a small network on ten of them, and mines data sets in which the other thirty are repeated,
each in a process of its own: from files to the finished store, without calibration and windows, so that SAM sees each image once. Seconds
are those of the processor, start-up left out; memory is the most that the process held. OUT keeps the data sets and stores.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import samsemi
from samsemi.data.dataset import Dataset, write_dataset
from samsemi.devices import peak_memory
from samsemi.mining.store import Store
from samsemi.speed import draw_cases
from samsemi.stages.bench import CLASSES

SIDE, LABELED, VAL, DRAWN = 128, 8, 2, 40
NETWORK = {"encoder": "tu-lcnet_035", "decoder_channels": "16,12,8,8,8", "size": 64, "lr": 0.01, "ema": 0.8, "iterations": 60}
READ = 200
"""Images of a store, at most, whose labels are read."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        print(json.dumps(measure(chosen.out, chosen.one, chosen.sam, chosen.precision)))
        return
    make_data(chosen.out, chosen.images)
    print("| images | images/s | over the first | peak memory (MB) | store (MB) | opening it (ms) | labels of an image (ms) |")
    print("|---|---|---|---|---|---|---|")
    first = None
    for number in chosen.images:
        again = [sys.executable, __file__, str(chosen.out), "--one", str(number), "--sam", chosen.sam, "--precision", chosen.precision]
        row = json.loads(subprocess.run(again, stdout=subprocess.PIPE, check=True, text=True).stdout)
        first = first or row["images_per_second"]
        cells = (
            row["images_per_second"],
            row["images_per_second"] / first,
            row["memory_mb"],
            row["store_mb"],
            row["open_ms"],
            row["read_ms"],
        )
        print(f"| {number:,} | {' | '.join(f'{cell:,.4g}' for cell in cells)} |", flush=True)


def make_data(out: Path, counts: list[int]) -> None:
    """The drawn images, the network, and a data set of so many unlabeled images for each count."""
    (out / "drawn").mkdir(parents=True)
    drawn = draw_cases(out / "drawn", DRAWN, SIDE)
    known = [replace(case, split="labeled" if i < LABELED else "val") for i, case in enumerate(drawn[: LABELED + VAL])]
    others = drawn[LABELED + VAL :]
    for number in counts:
        repeated = (others[i % len(others)] for i in range(number))
        unlabeled = [replace(case, id=f"u{i}", mask=None, split="unlabeled", group=f"u{i}") for i, case in enumerate(repeated)]
        folder = out / f"data-{number}"
        folder.mkdir()
        write_dataset(Dataset(folder, "repeated", CLASSES, None, {case.id: case for case in (*known, *unlabeled)}))
    samsemi.warmstart(dataset=out / f"data-{counts[0]}", out=out / "warm", device="cpu", quiet=True, **NETWORK)


def measure(out: Path, number: int, sam: str, precision: str) -> dict[str, float]:
    """Of mining one of the data sets, after a share of it to warm up."""
    store = out / f"{number}.h5"
    given = {"dataset": out / f"data-{number}", "model": out / "warm", "sam": sam, "precision": precision, "device": "cpu", "zoom": 0.0}
    given |= {"calibrate": False, "quiet": True}
    samsemi.mine(out=out / f"{number}-warm-up.h5", part=f"1/{max(1, number // 16)}", **given)
    start = time.process_time()
    samsemi.mine(out=store, **given)
    seconds, memory = time.process_time() - start, peak_memory(torch.device("cpu"))
    start = time.process_time()
    opened = Store(store)
    opening = time.process_time() - start
    names = np.random.default_rng(0).choice(opened.ids, min(READ, number), replace=False).tolist()
    start = time.process_time()
    for name in names:
        opened.read(name)
    reading = (time.process_time() - start) / len(names)
    figures = {"images_per_second": number / seconds, "memory_mb": memory / 1e6, "store_mb": store.stat().st_size / 1e6}
    return {**figures, "open_ms": 1000 * opening, "read_ms": 1000 * reading, "objects": len(opened.objects)}


if __name__ == "__main__":
    main()
