"""segment-anything's own layers, computed faster: the same function of the same weights, whose names stay.

Bits differ in the last places; the encoder's output by less than 1e-5 (tests/sam/test_attention.py).
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from segment_anything.modeling import image_encoder, transformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
ALIGNED = 8
"""Widths of queries and keys are multiples of this, as the fused kernels of GPUs need them."""


class FoldedAttention(nn.Module):
    """The encoder's attention with decomposed relative positions, by the fused kernel: no matrix of all pairs of cells is made.

    A score is q . k + q . R[row distance] + q . C[column distance]. The last two depend on the row and on the column of the key alone,
    so they are q's products with each row and column, next to q, times a mark of the key's row and column, next to k.
    """

    def __init__(self, attention: image_encoder.Attention):
        super().__init__()
        self.num_heads, self.scale, self.use_rel_pos = attention.num_heads, attention.scale, attention.use_rel_pos
        self.qkv, self.proj = attention.qkv, attention.proj
        if self.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        height, width = x.shape[1:3]
        q, k, v = self.qkv(x).reshape(len(x), height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        channels = v.shape[-1]
        if self.use_rel_pos:
            q, k = self.fold(q, k, height, width)
            v = F.pad(v, (0, q.shape[-1] - channels))  # the fused kernels take one width
        attended = F.scaled_dot_product_attention(q, k, v, scale=self.scale)[..., :channels]
        return self.proj(attended.transpose(1, 2).reshape(len(x), height, width, -1))

    def fold(self, q: Tensor, k: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, heads, H W, c) with the relative positions in them."""
        cells = q.unflatten(2, (height, width))
        rows, columns = (get_rel_pos(n, n, table) / self.scale for n, table in ((height, self.rel_pos_h), (width, self.rel_pos_w)))
        by_row = torch.einsum("bnhwc,hkc->bnhwk", cells, rows).flatten(2, 3)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", cells, columns).flatten(2, 3)
        eye_h, eye_w = (torch.eye(n, dtype=q.dtype, device=q.device) for n in (height, width))
        marks = torch.cat([eye_h.repeat_interleave(width, dim=0), eye_w.repeat(height, 1)], dim=1)
        missing = -(q.shape[-1] + height + width) % ALIGNED
        q = F.pad(torch.cat([q, by_row, by_column], dim=-1), (0, missing))
        return q, torch.cat([k, F.pad(marks, (0, missing)).expand(*k.shape[:2], -1, -1)], dim=-1)


class TokenAttention(nn.Module):
    """The decoder's attention, between a few tokens and the many cells of an image."""

    def __init__(self, attention: transformer.Attention):
        super().__init__()
        self.num_heads = attention.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Queries (N, Q, C), keys and values (N, K, C) -> (N, Q, C)."""
        return self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same of what is projected already."""
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        if q.shape[2] > k.shape[2]:  # along a few tokens a softmax is slow, across them it is not
            scores = (k * q.shape[-1] ** -0.5) @ q.transpose(-1, -2)
            attended = scores.softmax(dim=-2).transpose(-1, -2) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class ChannelNorm(nn.Module):
    """``LayerNorm2d``, the norm over the channels of (N, C, h, w), in one step."""

    def __init__(self, norm: LayerNorm2d):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)
        return F.layer_norm(rows, rows.shape[-1:], self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


FASTER = {image_encoder.Attention: FoldedAttention, transformer.Attention: TokenAttention, LayerNorm2d: ChannelNorm}


def make_faster(network: Network) -> Network:
    """The same network, a SAM or its encoder, with segment-anything's layers replaced by those above."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in FASTER:
                setattr(module, name, FASTER[type(child)](child))
    return network
