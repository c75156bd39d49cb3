"""What an iteration of `finetune` costs by its schedule, in CPU seconds of one process, so that other jobs disturb little.

    OMP_NUM_THREADS=1 python examples/evidence/iteration.py DATASET MODEL STORE [--embeddings CACHE] [--precision bf16]

The cache is that of `mine --embeddings`; it is copied, so that each run begins with what `mine` has seen. Loading, labels, step and
averaging count; start-up and validation do not, nor the first WARM_UP iterations.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

import samsemi
from samsemi.training import loop

SCHEDULES = ("once", "online")
WARM_UP = 3


def time_iterations(schedule: str, given: argparse.Namespace, folder: Path) -> np.ndarray:
    """CPU seconds of each iteration of a fine-tuning that is validated at its end alone."""
    ends: list[float] = []
    train_step = loop.train_step

    def timed(*arguments):
        terms = train_step(*arguments)
        ends.append(time.process_time())
        return terms

    cache = folder / "embeddings.h5"
    if given.embeddings:
        shutil.copy(given.embeddings, cache)
    loop.train_step = timed
    try:
        options = {"iterations": given.iterations, "validate_every": given.iterations, "precision": given.precision, "lr": given.lr}
        paths = {"dataset": given.dataset, "model": given.model, "store": given.store, "out": folder / "run", "embeddings": cache}
        samsemi.finetune(**paths, **options, schedule=schedule, device="cpu", quiet=True)
    finally:
        loop.train_step = train_step
    return np.diff(ends)[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dataset", "model", "store"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2, help="of all schedules, in turn")
    given = parser.parse_args()
    found: dict[str, list[np.ndarray]] = {schedule: [] for schedule in SCHEDULES}
    for _ in range(given.repeats):
        for schedule in SCHEDULES:
            with tempfile.TemporaryDirectory() as folder:
                found[schedule].append(time_iterations(schedule, given, Path(folder)))
    means = {schedule: np.concatenate(parts).mean() for schedule, parts in found.items()}
    for schedule, mean in means.items():
        print(f"{schedule}: {1000 * mean:.0f} ms CPU per iteration, {mean / means['once']:.2f} times once")


if __name__ == "__main__":
    main()
