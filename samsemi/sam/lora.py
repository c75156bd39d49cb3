"""Low-rank adapters of SAM's image encoder: W + B A on the query-key-value projections, folded into W at the end."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from samsemi.errors import UsageError
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


PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj")
"""What the linear layers are called that make queries, keys and values, in one or one each."""


def find_projections(network: SamNetwork) -> list[tuple[nn.Module, str]]:
    """The attention of the image encoder: module and name in it of each linear layer that makes queries, keys or values."""
    modules = network.image_encoder.modules()
    return [(module, name) for module in modules for name, _ in module.named_children() if name in PROJECTIONS]


def add_lora(network: SamNetwork, rank: int) -> None:
    """Put trainable adapters on the projections of every attention of the image encoder; UsageError where it has none."""
    found = find_projections(network)
    if not found:
        raise UsageError("--lora: the image encoder of this --sam has no attention that is known", "leave it out, or give --all")
    for module, name in found:
        layer = getattr(module, name)
        out_features, in_features = layer.weight.shape
        parametrize.register_parametrization(layer, "weight", LowRank(out_features, in_features, rank).to(layer.weight.device))


def fold_lora(network: SamNetwork) -> None:
    """Make adapters part of the weights they adapt: the model is an ordinary SAM again. Without adapters nothing changes.

    Not by ``remove_parametrizations``, which also breaks every copy of the model: they share the class that it changes.
    """
    for module, name in find_projections(network):
        adapted = getattr(module, name)
        if parametrize.is_parametrized(adapted):
            bias = adapted.bias is not None
            plain = nn.utils.skip_init(nn.Linear, *adapted.weight.shape[::-1], bias=bias, device=adapted.weight.device)
            plain.load_state_dict({"weight": adapted.weight, **({"bias": adapted.bias} if bias else {})})
            setattr(module, name, plain)
