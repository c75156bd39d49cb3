"""What mining a data set will take: time, disk and memory, measured by mining a few of its images for nothing."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from samsemi.data.dataset import Case, Dataset, read_case_images
from samsemi.devices import peak_memory
from samsemi.mining.calibration import find_sources
from samsemi.mining.folds import FoldMaps
from samsemi.mining.miner import Miner, map_size_of, mine_cases, open_writer, provenance_of
from samsemi.mining.store_writer import find_parts
from samsemi.options.mine import MineOptions
from samsemi.sam.checks import encode_images
from samsemi.sam.protocol import SamBackend, choose_masks
from samsemi.segmenters.segmenter import Segmenter

BATCHES = 2
"""Measured, after one to warm up."""
MB = 1e6


def forecast(
    cases: Sequence[Case],
    segmenters: Sequence[Segmenter],
    sam: SamBackend,
    dataset: Dataset,
    options: MineOptions,
    fold_maps: FoldMaps | None = None,
) -> dict[str, object]:
    """Seconds, megabytes on disk and in memory of mining all cases on this device, nothing being cached; ``options.out`` is not touched.

    While a store is joined from its parts, its disk space is needed twice.
    """
    sam = choose_masks(sam, options.masks)
    chosen = pick(cases, (1 + BATCHES) * options.batch_size)
    size = min(options.batch_size, max(1, len(chosen) // 2))
    measured = chosen[size:] or chosen
    with tempfile.TemporaryDirectory(prefix="samsemi-") as folder:
        own = replace(options, out=Path(folder) / "store.h5", embeddings=None, batch_size=size)
        writer = open_writer(own.out, own, sam, provenance_of(own, sam, "", [""]), len(dataset.classes), map_size_of(sam, segmenters))
        with closing(Miner(segmenters[0], sam, own, segmenters[1:])) as miner:
            miner.mine(read_case_images(chosen[:size]))
            miner.windows, start = 0, time.perf_counter()
            mine_cases(measured, miner, writer)
            seconds = (time.perf_counter() - start) / len(measured)
        stored = sum(part.stat().st_size for part in find_parts(own.out)) / len(measured)
    judged = sum(map(len, find_sources(sam, dataset, fold_maps).values())) if options.calibrate else 0
    windows = miner.windows / len(measured)
    return {
        "images": len(cases),
        "calibrated_images": judged,
        "images_measured": len(measured),
        "images_per_second": 1 / seconds,
        "windows_per_image": windows,
        "seconds": seconds * (len(cases) + judged),
        "store_mb": stored * len(cases) / MB,
        "embeddings_mb": windows * weigh_embedding(sam) * (len(cases) + judged) / MB if options.embeddings else 0.0,
        "free_mb": shutil.disk_usage(nearest_folder(options.out)).free / MB,
        "memory_mb": peak_memory(segmenters[0].device) / MB,
        "device": str(segmenters[0].device),
    }


def weigh_embedding(sam: SamBackend) -> int:
    """Bytes of an embedding in a cache, in half precision."""
    [embedding] = encode_images(sam, [np.zeros((64, 64, 3), np.uint8)])
    return 2 * sum(tensor.numel() for tensor in embedding.tensors.values())


def pick(cases: Sequence[Case], count: int) -> list[Case]:
    """So many cases at most, from all over a data set."""
    return [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, count).astype(int)).tolist()]


def nearest_folder(path: Path) -> Path:
    """The folder of a file, or the nearest above it that is there."""
    return next(folder for folder in path.resolve().parents if folder.is_dir())
