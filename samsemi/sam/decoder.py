"""SAM's mask decoder over the prompts of many images, for masks alone: no gradients, one mask of each prompt.

The same function of the same weights as segment-anything's ``MaskDecoder``. What depends on the image alone is computed once per image,
the three projections of a layer's image side in one product, and only the mask that is taken is made.
"""

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import TwoWayAttentionBlock
from torch import Tensor, nn

Projection = tuple[nn.Linear, bool]
"""Of the image side, and whether positions are added to what it projects."""


def decode_one(
    decoder: MaskDecoder, position: Tensor, features: Tensor, owner: Tensor, sparse: Tensor, dense: Tensor, three: bool
) -> tuple[Tensor, Tensor]:
    """(N, m, m) logits and (N,) predicted IoU: of each prompt's masks the single one, or the best predicted of the other ``three``.

    ``features`` (I, C, h, w) and ``owner`` (N,) the image of each prompt; ``position`` (1, C, h, w); ``sparse`` (N, T, C) and ``dense``
    (N, C, h, w) as the prompt encoder makes them.
    """
    height, width = features.shape[2:]
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
    shared = dense.stride()[2:] == (0, 0)  # the same of all prompts and cells: no mask is given
    source = features + dense[:1] if shared else features[owner] + dense
    tokens, source = attend(decoder.transformer, as_rows(source), as_rows(position), tokens, owner if shared else None)
    predicted_iou = decoder.iou_prediction_head(tokens[:, 0])
    number = 1 + predicted_iou[:, 1:].argmax(dim=1) if three else predicted_iou.new_zeros(len(tokens), dtype=torch.long)
    row = torch.arange(len(tokens), device=number.device)
    chosen = range(1, decoder.num_mask_tokens) if three else range(1)
    weights = torch.stack([decoder.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in chosen], dim=1)[row, number - chosen[0]]
    upscaled = decoder.output_upscaling(source.transpose(1, 2).unflatten(2, (height, width)))
    masks = torch.einsum("nc,nchw->nhw", weights, upscaled)
    return masks.float(), predicted_iou[row, number].float()


def as_rows(maps: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C)."""
    return maps.flatten(2).transpose(1, 2)


def in_precision(x: Tensor) -> Tensor:
    """In the type of autocast, where that is on: what is added to it stays as small."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def attend(transformer: TwoWayTransformer, keys: Tensor, position: Tensor, tokens: Tensor, owner: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (N, T, C) and the cells of the images (N, hw, C), after the two-way transformer; with ``owner`` (N,) the cells are given
    once per image."""
    queries, keys, position = tokens, in_precision(keys), in_precision(position)
    for layer in transformer.layers:
        queries, keys = attend_both_ways(layer, queries, keys, position, tokens, owner)
        owner = None
    final = transformer.final_attn_token_to_image
    k, v = project(keys, position, (final.k_proj, True), (final.v_proj, False))
    attended = final.attend(final.q_proj(queries + tokens), k, v)
    return transformer.norm_final_attn(queries + attended), keys


def attend_both_ways(
    layer: TwoWayAttentionBlock, queries: Tensor, keys: Tensor, position: Tensor, tokens: Tensor, owner: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A layer: tokens to themselves and to the image, the image to the tokens."""
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    projections = (to_image.k_proj, True), (to_image.v_proj, False), (to_tokens.q_proj, True)
    sides = [keys, *project(keys, position, *projections)]
    keys, k, v, q = sides if owner is None else [side[owner] for side in sides]
    if layer.skip_first_layer_pe:
        queries = layer.norm1(layer.self_attn(queries, queries, queries))
    else:
        placed = queries + tokens
        queries = layer.norm1(queries + layer.self_attn(placed, placed, queries))
    queries = layer.norm2(queries + to_image.attend(to_image.q_proj(queries + tokens), k, v))
    queries = layer.norm3(queries + layer.mlp(queries))
    attended = to_tokens.attend(q, to_tokens.k_proj(queries + tokens), to_tokens.v_proj(queries))
    return queries, layer.norm4(keys + attended)


def project(keys: Tensor, position: Tensor, *projections: Projection) -> tuple[Tensor, ...]:
    """Each projection of keys (N, hw, C), with their positions (1, hw, C) where it sees them, all by one product."""
    weight = torch.cat([linear.weight for linear, _ in projections])
    bias = torch.cat([linear.bias for linear, _ in projections])
    seen = torch.cat([linear.weight * placed for linear, placed in projections])
    projected = F.linear(keys, weight) + F.linear(position, seen, bias)
    return projected.split([linear.out_features for linear, _ in projections], dim=-1)
