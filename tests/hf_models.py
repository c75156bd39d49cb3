"""Tiny random SAMs of transformers, in folders as the hub has them; and what transformers itself makes of an image and its prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'samsemi[hf]'")

from samsemi.sam.prompts import Prompts  # noqa: E402

FAMILIES = ("sam", "sam_hq", "sam2", "sam3")
WIDTH = 16
GRIDS = [[16, 16], [8, 8], [4, 4]]
DECODER = {"hidden_size": WIDTH, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
VIT = {
    "hidden_size": 32,
    "output_channels": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_dim": 64,
    "image_size": 64,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [1],
    "num_pos_feats": WIDTH // 2,
}
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [64, 64],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "global_attention_blocks": [3],
    "window_size_per_stage": [4, 4, 4, 4],
    "window_positional_embedding_background_size": [2, 2],
}
VIT_3 = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "window_size": 2,
    "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}
PYRAMID = {"backbone_feature_sizes": GRIDS, "fpn_hidden_size": WIDTH}
VISION = {
    "sam": VIT,
    "sam_hq": VIT,
    "sam2": {**PYRAMID, "backbone_config": HIERA, "backbone_channel_list": [64, 32, 16, 8]},
    "sam3": {**PYRAMID, "model_type": "sam3_vision_model", "backbone_config": VIT_3, "scale_factors": [4.0, 2.0, 1.0]},
}
SIDES = {"sam": (64, 8), "sam_hq": (64, 8), "sam2": (64, 16), "sam3": (56, 14)}
"""Side of the input, and of a patch of it."""
NOISE = {"sam": 0.25, "sam_hq": 0.2, "sam2": 0.2, "sam3": 0.2}
NAMES = {"sam": "Sam", "sam_hq": "SamHQ", "sam2": "Sam2", "sam3": "Sam3Tracker"}


def build_model(family: str, seed: int = 0) -> Any:
    """A model of 40,000 to 80,000 random weights, whose masks are not flat, and whose single masks are mostly not stable."""
    side, patch = SIDES[family]
    prompt = {"hidden_size": WIDTH, "image_size": side, "patch_size": patch, "mask_input_channels": 8}
    decoder = {**DECODER, **({"vit_dim": VIT["hidden_size"]} if family == "sam_hq" else {})}
    config = getattr(transformers, f"{NAMES[family]}Config")
    torch.manual_seed(seed)
    model = getattr(transformers, f"{NAMES[family]}Model")(
        config(vision_config=VISION[family], prompt_encoder_config=prompt, mask_decoder_config=decoder)
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.add_(torch.randn_like(weights) * (0.5 if "memory" in name else NOISE[family]))
        if family == "sam":
            model.mask_decoder.upscale_conv2.weight.mul_(3)
    return model.eval()


def build_processor(family: str) -> Any:
    side = SIDES[family][0]
    square = {"height": side, "width": side}
    if family in ("sam", "sam_hq"):
        return transformers.SamImageProcessor(size={"longest_edge": side}, pad_size=square)
    return getattr(transformers, f"Sam{family[-1]}ImageProcessor")(size=square)


def save_model(family: str, folder: Path, seed: int = 0) -> Any:
    """Write a folder as the hub has it; the model in it."""
    model = build_model(family, seed)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    build_processor(family).save_pretrained(folder)
    return model


def predict(family: str, model: Any, image: np.ndarray, prompts: Prompts, three: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' own masks of the prompts of an image: (N, 1 or 3, H, W) logits, and (N, 1 or 3) predicted IoU."""
    kind = "SamProcessor" if family == "sam" else f"{NAMES[family]}Processor"
    processor = getattr(transformers, kind)(build_processor(family))
    given = {
        "input_points": None if prompts.point_coords is None else [prompts.point_coords.tolist()],
        "input_labels": None if prompts.point_labels is None else [prompts.point_labels.tolist()],
        "input_boxes": None if prompts.boxes is None else [prompts.boxes.tolist()],
    }
    inputs = processor(images=image, **{name: value for name, value in given.items() if value}, return_tensors="pt")
    sizes = [inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
    numbers = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        output = model(**numbers, multimask_output=three)
    return processor.post_process_masks(output.pred_masks, *sizes, binarize=False)[0], output.iou_scores[0]


MEMORY = {
    **{f"memory_{name}": WIDTH for name in ("attention_hidden_size", "attention_feed_forward_hidden_size", "encoder_hidden_size")},
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": WIDTH,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_output_channels": 8,
}
SMALL = {"hidden_size": WIDTH, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": WIDTH}
DETECTOR = {
    "vision_config": {**VISION["sam3"], "scale_factors": [4.0, 2.0, 1.0, 0.5]},
    "text_config": {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 50,
        "projection_dim": WIDTH,
        "max_position_embeddings": 8,
    },
    "geometry_encoder_config": {**SMALL, "roi_size": 2},
    "detr_encoder_config": SMALL,
    "detr_decoder_config": {**SMALL, "num_queries": 4},
    "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 2},
}


def save_video_model(family: str, folder: Path) -> Any:
    """Write a folder as the hub has SAM 2.1 and SAM 3, whole models for videos; transformers' own model for images of it."""
    side, patch = SIDES[family]
    prompt = {"hidden_size": WIDTH, "image_size": side, "patch_size": patch, "mask_input_channels": 8}
    tracker = {
        "vision_config": VISION[family],
        "prompt_encoder_config": prompt,
        "mask_decoder_config": DECODER,
        "image_size": side,
        **MEMORY,
    }
    torch.manual_seed(0)
    if family == "sam2":
        model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**tracker))
    else:
        config = transformers.Sam3VideoConfig(detector_config=DETECTOR, tracker_config=tracker, low_res_mask_size=16)
        model = transformers.Sam3VideoModel(config)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    build_processor(family).save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {name.replace("tracker_model.tracker_model.", "tracker_model."): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    return getattr(transformers, f"{NAMES[family]}Model").from_pretrained(folder)
