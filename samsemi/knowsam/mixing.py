"""Uncertainty-guided mixing: cells of labeled images are pasted into unlabeled ones and the other way, by where the networks are uncertain.

The paper exchanges the most uncertain regions, its public code overwrites the most certain ones: either can be chosen.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from samsemi.training.batches import Sample, paste

Which = Literal["highest", "lowest"]


def mix_regions(labeled: Sample, unlabeled: Sample, entropy: Tensor, which: Which, count: int, grid: int) -> Sample:
    """Two batches of B -> one of 2 B: the labeled images with cells of their unlabeled partners, then these with cells of theirs.

    ``entropy`` (2 B, 1, S, S), of the labeled images first, decides where: in each image its own ``count`` cells of a ``grid`` x ``grid``
    grid. Image, target and weight go together. Source: KnowSAM, arXiv 2412.13742.
    """
    inside = choose_cells(entropy, which, count, grid)
    half = len(labeled.image)
    mixed = paste(labeled, unlabeled, inside[:half]), paste(unlabeled, labeled, inside[half:])
    return Sample(*(torch.cat(parts) for parts in zip(*mixed, strict=True)))


def choose_cells(entropy: Tensor, which: Which, count: int, grid: int) -> Tensor:
    """(B, 1, S, S) -> (B, S, S) bool, true in the cells of highest or lowest mean entropy of each image."""
    means = F.adaptive_avg_pool2d(entropy, grid).flatten(1)
    chosen = torch.zeros_like(means).scatter(1, means.topk(count, dim=1, largest=which == "highest").indices, 1)
    return F.interpolate(chosen.view(-1, 1, grid, grid), entropy.shape[2:], mode="nearest-exact")[:, 0] > 0
