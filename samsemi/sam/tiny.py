"""`tiny`: a Segment Anything Model of 4.6 million parameters, small enough for a CPU.

Built from segment_anything's own classes: an image of 256 px on its longer side, patches of 16 px, so 16 x 16 embeddings of 128
channels and low-res logits of 64 x 64; 6 transformer blocks of width 192 with 3 heads (windows of 8 x 8, every second block global);
two-way decoder of depth 2 with 3 + 1 mask outputs and the head for the predicted IoU. The weights in this folder come from
`examples/tiny_sam`.

Three parts are added to the published SAM, so that it learns from far fewer images: a small convolutional network looks at the
pixels of the patches as well (the patches themselves are projected at half the size), prompts are also drawn as maps into the dense
prompt embedding, and convolutions stand between the steps of the decoder's upscaling.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from samsemi.sam.preprocessing import MEAN, STD

IMAGE_SIZE = 256  # px, longer side of the input
PATCH_SIZE = 16  # px
ENCODER_WIDTH = 192
ENCODER_DEPTH = 6
ENCODER_HEADS = 3
WINDOW_SIZE = 8  # embeddings
GLOBAL_BLOCKS = (1, 3, 5)
PROMPT_WIDTH = 128  # channels of the image embedding and the prompt tokens
DECODER_DEPTH = 2
DECODER_HEADS = 8
DECODER_MLP = 512
MASK_IN_CHANNELS = 16
STEM_WIDTHS = (32, 64, 128)
FINE_WIDTH = 16
DRAWN_WIDTH = 96
DOT_RADII = (6.0, 24.0)  # px, standard deviations of a drawn point
BOX_MAPS = 7


class Residual(nn.Module):
    """x plus two 3 x 3 convolutions of it; the second is zero at first."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = group_norm(channels)
        self.second = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return x + self.second(F.gelu(self.norm(self.first(x))))


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8 if channels >= 32 else 4, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    return layer


class PatchStem(nn.Module):
    """SAM's patch projection at half the size plus a small convolutional network: (B, 3, S, S) -> (B, S/16, S/16, C)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, PATCH_SIZE // 2, PATCH_SIZE // 2)
        self.fine = nn.Sequential(
            *(nn.Conv2d(channels, FINE_WIDTH, 4, 2, 1), group_norm(FINE_WIDTH), nn.GELU()),
            *(nn.Conv2d(FINE_WIDTH, STEM_WIDTHS[0], 4, 2, 1), group_norm(STEM_WIDTHS[0]), nn.GELU()),
            zeroed(nn.Conv2d(STEM_WIDTHS[0], STEM_WIDTHS[0], 1)),
        )
        layers = []
        for own in STEM_WIDTHS:
            layers += [nn.Conv2d(channels, own, 4, 2, 1), group_norm(own), nn.GELU(), Residual(own)]
            channels = own
        self.stem = nn.Sequential(*layers, zeroed(nn.Conv2d(channels, width, 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last)
        half = F.avg_pool2d(x, 2)
        first, others = self.stem[0], self.stem[1:]
        return (self.proj(half) + others(first(half) + self.fine(x))).permute(0, 2, 3, 1)


class DrawnPromptEncoder(PromptEncoder):
    """SAM's prompt encoder that also draws boxes and points as maps, which a small network adds to the dense embedding."""

    def __init__(self, **sizes: Any):
        super().__init__(**sizes)
        maps = BOX_MAPS + 2 * len(DOT_RADII)
        self.draw = nn.Sequential(nn.Conv2d(maps, DRAWN_WIDTH, 4, 4), nn.GELU(), zeroed(nn.Conv2d(DRAWN_WIDTH, self.embed_dim, 1)))

    def forward(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """As SAM's: sparse (N, T, C) and dense (N, C, h, w) embeddings."""
        sparse, dense = super().forward(points, boxes, masks)
        side, cells = self.input_image_size[0], self.mask_input_size[0]
        axis = (torch.arange(cells, device=sparse.device) + 0.5) * side / cells - 0.5
        empty = axis.new_zeros(()).expand(len(sparse), cells, cells)
        maps = [empty] * BOX_MAPS if boxes is None else draw_boxes(axis, boxes, side)
        maps += [empty] * (2 * len(DOT_RADII)) if points is None else draw_points(axis, *points)
        return sparse, dense + self.draw(torch.stack(maps, 1))


def draw_boxes(axis: Tensor, boxes: Tensor, side: int) -> list[Tensor]:
    """Seven maps (N, m, m) of boxes (N, 4) for cells that lie at ``axis`` (m,) along both axes: a mark, the place in the box from -1 to 1,
    how far outside the ellipse and the box in it, whether inside, and the box's size."""
    x0, y0, x1, y1 = boxes.reshape(-1, 4)[:, :, None].unbind(1)
    width, height = (x1 - x0 + 1).clamp(1), (y1 - y0 + 1).clamp(1)
    u = ((2 * axis - x0 - x1) / width).clamp(-2, 2)[:, None, :]
    v = ((2 * axis - y0 - y1) / height).clamp(-2, 2)[:, :, None]
    outside = torch.maximum(u.abs(), v.abs()) - 1
    size = (width * height).sqrt()[:, :, None] / side
    maps = [torch.ones_like(u), u, v, (u * u + v * v).clamp(max=4) - 1, (outside < 0).to(u), size, outside]
    return [drawn.expand_as(outside) for drawn in maps]


def draw_points(axis: Tensor, coords: Tensor, labels: Tensor) -> list[Tensor]:
    """Four maps (N, m, m) of points (N, P, 2) with labels (N, P): narrow and wide dots, of the positive and of the negative ones."""
    squares = (axis - coords[..., None]) ** 2  # (N, P, 2, m)
    maps = []
    for positive in (1, 0):
        kind = (labels == positive)[:, :, None, None]
        for radius in DOT_RADII:
            x, y = torch.exp(-squares / (2 * radius * radius)).unbind(2)
            maps.append((x[:, :, None, :] * (y[:, :, :, None] * kind)).amax(1))
    return maps


def build_tiny() -> Sam:
    """The architecture with fresh weights: embeddings (1, 128, 16, 16), low-res logits (N, 3, 64, 64), on the CPU, in training mode."""
    grid = IMAGE_SIZE // PATCH_SIZE
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            embed_dim=ENCODER_WIDTH,
            depth=ENCODER_DEPTH,
            num_heads=ENCODER_HEADS,
            mlp_ratio=4,
            out_chans=PROMPT_WIDTH,
            qkv_bias=True,
            use_rel_pos=True,
            window_size=WINDOW_SIZE,
            global_attn_indexes=GLOBAL_BLOCKS,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=DrawnPromptEncoder(
            embed_dim=PROMPT_WIDTH,
            image_embedding_size=(grid, grid),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=MASK_IN_CHANNELS,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=DECODER_DEPTH, embedding_dim=PROMPT_WIDTH, mlp_dim=DECODER_MLP, num_heads=DECODER_HEADS),
            transformer_dim=PROMPT_WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=PROMPT_WIDTH,
        ),
        pixel_mean=list(MEAN),
        pixel_std=list(STD),
    )
    sam.image_encoder.patch_embed = PatchStem(3, ENCODER_WIDTH)
    first, norm, activation, second, last = sam.mask_decoder.output_upscaling
    sam.mask_decoder.output_upscaling = nn.Sequential(
        Residual(PROMPT_WIDTH), first, norm, activation, Residual(PROMPT_WIDTH // 4), second, last, Residual(PROMPT_WIDTH // 8)
    )
    return sam
