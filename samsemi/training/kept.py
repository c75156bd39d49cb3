"""Samples that stay in memory, so that each file is decoded and resized once while there is room."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from samsemi.data.dataset import Case
from samsemi.training.batches import Sample

KEPT_BYTES = 2**29
"""Of the samples of a stream, in a process that trains and those that load for it."""


class KeptSamples:
    """Loads the samples of the cases of a data set: the first time by ``load``, then from memory, the same bits, as they are before
    augmentation. What does not fit into the bytes any more is loaded every time. Of n processes each keeps its own, in an n-th of them.
    """

    def __init__(self, load: Callable[[Case], Sample], most: int = KEPT_BYTES):
        self.load, self.most = load, most
        self.kept: dict[str, tuple[Tensor, ...]] = {}
        self.bytes = 0

    def __call__(self, case: Case) -> Sample:
        if case.id in self.kept:
            return Sample(*map(unpack, self.kept[case.id]))
        sample = self.load(case)
        self.keep(case.id, tuple(map(pack, sample)))
        return sample

    def keep(self, name: str, packed: tuple[Tensor, ...]) -> None:
        size, worker = sum(part.nbytes for part in packed), get_worker_info()
        if self.bytes + size <= self.most // (worker.num_workers if worker else 1):
            self.kept[name] = packed
            self.bytes += size


def pack(part: Tensor) -> Tensor:
    """A map of zeros and ones in a byte of each pixel, such as the target of a mask; others as they are."""
    marks = part.bool()
    return marks if part.is_floating_point() and torch.equal(marks.float(), part) else part


def unpack(part: Tensor) -> Tensor:
    return part.float() if part.dtype == torch.bool else part
