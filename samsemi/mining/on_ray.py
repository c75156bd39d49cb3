"""Mining by the workers of a Ray cluster, for ``mine --engine ray``: each holds the models and the SAM, and writes parts of the store.

A worker that is lost is started again, and so is what it was mining: a part is the same whoever writes it, and whole or not there.
"""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from samsemi import console, interrupts
from samsemi.data.dataset import Case, need_cases, read_case_images, read_dataset
from samsemi.devices import choose_device
from samsemi.errors import DeviceError, SamsemiError, UsageError
from samsemi.mining.folds import model_folders
from samsemi.mining.miner import Miner, cut_batches, mine_batch
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.mine import MineOptions
from samsemi.sam.protocol import choose_masks, load_sam
from samsemi.segmenters.checkpoints import load_model_for

RETRIES = 3
"""How often a worker, or a batch, is begun again."""


class Worker:
    """The models and the SAM of a mining, in a process of Ray."""

    def __init__(self, options: MineOptions, writer: StoreWriter):
        device, dataset = choose_device(options.device), read_dataset(options.dataset)
        segmenters = [load_model_for(dataset, folder).to(device) for folder in model_folders(options)]
        sam = choose_masks(load_sam(options.sam, options.sam_checkpoint, device, options.precision), options.masks)
        self.miner, self.writer = Miner(segmenters[0], sam, options, segmenters[1:]), writer
        self.batches = cut_batches(need_cases(dataset, "unlabeled"), options)

    def mine(self, number: int) -> tuple[int, int]:
        """Write a part; the numbers of its images and of the windows that SAM saw."""
        batch, before = self.batches[number], self.miner.windows
        mine_batch(batch, read_case_images(batch), self.miner, self.writer, number)
        return len(batch), self.miner.windows - before


def mine_on_ray(cases: Sequence[Case], options: MineOptions, writer: StoreWriter, on_gpu: bool) -> tuple[int, int]:
    """Mine what is not there yet into the parts of a store; the numbers of images and of windows.

    There are as many workers as the cluster has GPUs, or processors. DeviceError where one is lost again and again.
    """
    batches = cut_batches(cases, options)
    todo = [number for number in batches if not writer.has_part(number)]
    total, found = sum(map(len, batches.values())), [(0, 0)]
    with joined_cluster() as ray, console.progress("mine", total, done=total - sum(len(batches[n]) for n in todo)) as advance:
        kind = "GPU" if on_gpu else "CPU"
        count = min(len(todo), max(1, int(ray.cluster_resources().get(kind, 1))))
        need = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        make = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES, **need)(Worker).remote
        workers = ray.util.ActorPool([make(replace(options, device="cuda") if on_gpu else options, writer) for _ in range(count)])
        with named_loss(ray):
            for mined in workers.map_unordered(lambda worker, number: worker.mine.remote(number), todo):
                found.append(mined)
                advance(mined[0])
    images, windows = map(sum, zip(*found, strict=True))
    return images, windows


@contextmanager
def joined_cluster() -> Iterator[Any]:
    """Ray, joined to the cluster that ``RAY_ADDRESS`` names, or to one on this machine alone; signals are samsemi's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray: ray is not installed", "pip install 'samsemi[ray]'") from None
    handlers = {number: signal.getsignal(number) for number in interrupts.NUMBERS}
    was_there = ray.is_initialized()
    if not was_there:
        alone: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **alone)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        if not was_there:
            ray.shutdown()


@contextmanager
def named_loss(ray: Any) -> Iterator[None]:
    """What a worker raised, as it was raised there; DeviceError where it was lost."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, SamsemiError) else error) from None
    except ray.exceptions.RayActorError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"a worker of Ray was lost {RETRIES + 1} times: {reason:.300}", "go on with --resume") from None
