"""Two co-trained networks as one: the logits of both, and a fusion head that joins them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from samsemi.losses import entropy

SLOPE = 0.2
"""Of the leaky ReLUs."""
BRANCH, JOINED = 16, 64
"""Channels of a branch and of all together."""


class PeerLogits(NamedTuple):
    """Logits (B, K, H, W) of both peers, and of both together."""

    first: Tensor
    second: Tensor
    fused: Tensor


class CoTrained(nn.Module):
    """(B, 3, H, W) -> (B, K, H, W) logits: the fusion head's, or, without one, those of the mean probability."""

    def __init__(self, first: nn.Module, second: nn.Module, num_classes: int, fusion: bool = True):
        super().__init__()
        self.first, self.second = first, second
        self.head = FusionHead(num_classes) if fusion else None

    def forward(self, x: Tensor) -> Tensor:
        return self.peer_logits(x).fused

    def peer_logits(self, x: Tensor) -> PeerLogits:
        """Of each peer, and of both together."""
        first, second = self.first(x).float(), self.second(x).float()
        return PeerLogits(first, second, self.head(first, second) if self.head else mean_logits(first, second))


def mean_logits(first: Tensor, second: Tensor) -> Tensor:
    """Logits whose softmax is the mean of the two probabilities."""
    return torch.logaddexp(first.log_softmax(dim=1), second.log_softmax(dim=1))


class FusionHead(nn.Module):
    """Reads where the peers agree, how certain each is and their logits: two (B, K, H, W) logits -> (B, K, H, W) logits.

    Source: hybrid aggregation of KnowSAM, arXiv 2412.13742 and its code, where batch norm and leaky ReLU end the head too.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.agreement = branch(num_classes, BRANCH, BRANCH)
        self.certainty = branch(2, BRANCH, BRANCH)
        self.logits = branch(2 * num_classes, BRANCH, 2 * BRANCH)
        self.join = nn.Sequential(*layer(JOINED, JOINED, 3), *layer(JOINED, num_classes, 3))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        agree = (first.softmax(dim=1) > 0.5) == (second.softmax(dim=1) > 0.5)
        certain = 1 - torch.cat([entropy(first), entropy(second)], dim=1)
        both = self.logits(torch.cat([first, second], dim=1))
        return self.join(torch.cat([self.agreement(agree.to(first.dtype)), self.certainty(certain), both], dim=1)).float()


def layer(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
    """Convolution, batch norm, leaky ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.LeakyReLU(SLOPE)]


def branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*layer(in_channels, hidden, 3), *layer(hidden, out_channels, 1))
