"""`tiny`: a Segment Anything Model of about 3.7 million parameters, small enough for a CPU.

Built from segment_anything's own classes: an image of 128 px on its longer side, patches of 8 px, so 16 x 16 embeddings of 128 channels and
low-res logits of 64 x 64; 6 transformer blocks of width 192 with 3 heads (windows of 8 x 8, every second block global); two-way decoder of
depth 2 with 3 + 1 mask outputs and the head for the predicted IoU. The weights beside this file come from `examples/tiny_sam`.
"""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

IMAGE_SIZE = 128  # px, longer side of the input
PATCH_SIZE = 8  # px
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


def build_tiny() -> Sam:
    """The architecture with fresh weights: embeddings (1, 128, 16, 16), low-res logits (N, 3, 64, 64), on the CPU, in training mode."""
    grid = IMAGE_SIZE // PATCH_SIZE
    return Sam(
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
        prompt_encoder=PromptEncoder(
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
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
