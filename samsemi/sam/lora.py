"""Low-rank adapters of SAM's image encoder: W + B A on the query-key-value projections, folded into W at the end."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samsemi.sam.protocol import SamNetwork


class LowRank(nn.Module):
    """W -> W + B A with A (rank, in) random and B (out, rank) zero at first, so that nothing changes before training.

    Source: LoRA, arXiv 2106.09685.
    """

    def __init__(self, out_features: int, in_features: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, in_features) / in_features**0.5)
        self.up = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_lora(network: SamNetwork, rank: int) -> None:
    """Put trainable adapters on the qkv projection of every block of the image encoder."""
    for block in network.image_encoder.blocks:
        qkv = block.attn.qkv
        out_features, in_features = qkv.weight.shape
        parametrize.register_parametrization(qkv, "weight", LowRank(out_features, in_features, rank).to(qkv.weight.device))


def fold_lora(network: SamNetwork) -> None:
    """Make adapters part of the weights they adapt: the model is an ordinary SAM again. Without adapters nothing changes.

    Not by ``remove_parametrizations``, which also breaks every copy of the model: they share the class that it changes.
    """
    for block in network.image_encoder.blocks:
        adapted = block.attn.qkv
        if parametrize.is_parametrized(adapted):
            bias = adapted.bias is not None
            block.attn.qkv = nn.utils.skip_init(nn.Linear, *adapted.weight.shape[::-1], bias=bias, device=adapted.weight.device)
            block.attn.qkv.load_state_dict({"weight": adapted.weight, **({"bias": adapted.bias} if bias else {})})
