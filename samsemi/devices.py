"""Where and how precisely to compute. What a machine lacks is replaced by what it has, and said."""

import ctypes
import logging
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TypeVar

import torch

from samsemi import processes
from samsemi.errors import DeviceError, UsageError, is_out_of_memory

Made = TypeVar("Made")
LOG = logging.getLogger("samsemi")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT_BYTES, MAPPED_BYTES = 2**30, 2**25
"""Freed memory that is kept for the next tensors; size from which a block is the system's own, the largest that glibc takes everywhere."""


def choose_device(name: str) -> torch.device:
    """'auto' takes CUDA, then MPS, then the CPU; DeviceError for a device that is not there.

    Of several processes each takes a GPU of its own, unless one is named.
    """
    if name in ("auto", "cuda") and processes.count() > 1 and torch.cuda.is_available():
        torch.cuda.set_device(processes.place().local % torch.cuda.device_count())
        return torch.device("cuda", torch.cuda.current_device())
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        LOG.info("no GPU is found: computing on the CPU")
        name = "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: no such kind of device", "give auto, cpu, cuda, cuda:1 or mps") from None
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
    }
    if not there.get(device.type, False):
        raise DeviceError(f"--device {name} is not available on this machine", "see `samsemi info` for what is, or give --device auto")
    if device.type == "cpu":
        keep_freed_memory()
    return device


@cache
def keep_freed_memory() -> None:
    """Have glibc keep the memory of tensors that are gone, for those to come: new pages, which it otherwise gets for every batch, took an
    eighth of the time of `mine` on a CPU. Elsewhere nothing is done."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(MMAP_THRESHOLD, MAPPED_BYTES)


@cache
def choose_precision(device: torch.device, precision: str) -> str:
    """'auto' becomes bf16 where a GPU computes it by itself, else fp32; so does bf16 on a GPU that does not, with a warning."""
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return "fp32"
    if has_bf16(device):
        return "bf16"
    if precision == "bf16":
        LOG.warning(f"--precision bf16: {device} does not compute it by itself; fp32 is used")
    return "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16 by itself; of MPS that is not assumed."""
    if device.type != "cuda":
        return device.type == "cpu"
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 autocast or plain fp32, by ``choose_precision``."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if choose_precision(device, precision) == "bf16" else nullcontext()


def seed_device(device: torch.device, seed: int) -> None:
    """Have torch draw from a seed, on the CPU and on a device: on a CPU alone in a thousandth of the time that it takes for GPUs."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held so far, on a GPU of CUDA there; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class FittingCalls:
    """Calls over a batch; where the memory does not hold it all, over half as many of it at once from then on, which is said once."""

    def __init__(self, what: str):
        self.what = what
        """What there is a batch of, in a warning."""
        self.most: int | None = None

    def __call__(self, call: Callable[..., Sequence[Made]], *batch: Sequence) -> list[Made]:
        """What a call makes of each row of the sequences of a batch; what it raises where even a single row is too much."""
        made: list[Made] = []
        while len(made) < len(batch[0]):
            size = min(self.most or len(batch[0]), len(batch[0]) - len(made))
            some = self.attempt(call, size, [rows[len(made) : len(made) + size] for rows in batch])
            if some is None:
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                if self.most is None:
                    LOG.warning(f"out of memory: fewer {self.what} at once than --batch-size from now on")
                self.most = size // 2
            else:
                made += some
        return made

    @staticmethod
    def attempt(call: Callable[..., Sequence[Made]], size: int, some: Sequence[Sequence]) -> Sequence[Made] | None:
        """None where the memory does not hold it; what has been raised, and all that it holds, is gone then."""
        try:
            return call(*some)
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        return None
