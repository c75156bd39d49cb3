"""How an image becomes the square input of a SAM, and what is in pixels of the image becomes pixels of the input."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from skimage.transform import resize
from torch import Tensor

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's square input."""

    prepare: Callable[[np.ndarray, int], Tensor]
    """(H, W, 3) uint8 and the side of the input -> (3, H', W') float32, normalized."""
    input_size: Callable[[tuple[int, int], int], tuple[int, int]]
    """(H, W) and the side -> (H', W')."""
    normalize: Callable[[Tensor], Tensor]
    """Part of ``prepare``: (..., 3, H, W) floats in 0 to 255 -> as the model takes them."""

    def square(self, image: np.ndarray, side: int) -> Tensor:
        """(H, W, 3) uint8 -> (3, side, side) float32, padded at the right and the bottom."""
        x = self.prepare(image, side)
        return F.pad(x, (0, side - x.shape[2], 0, side - x.shape[1]))


def prepare_longest_side(image: np.ndarray, side: int) -> Tensor:
    """SAM: the longest side to ``side``, normalized; padding comes after."""
    resized = torch.from_numpy(ResizeLongestSide(side).apply_image(image)).permute(2, 0, 1).float()
    return normalize_colors(resized)


def normalize_colors(image: Tensor) -> Tensor:
    """Of ImageNet: mean 0, deviation 1 in each channel."""
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean) / std


def longest_side_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return ResizeLongestSide.get_preprocess_shape(*image_size, side)


def prepare_square(image: np.ndarray, side: int) -> Tensor:
    """MedSAM: resized to a square without keeping the aspect ratio, scaled from its own least and greatest value to [0, 1].

    Source: MedSAM_Inference.py of bowang-lab/MedSAM.
    """
    resized = resize(image, (side, side), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8).astype(np.float32)
    return normalize_range(torch.from_numpy(resized).permute(2, 0, 1))


def normalize_range(image: Tensor) -> Tensor:
    """From the least and the greatest value of each image to [0, 1]."""
    low, high = (bound(image, dim=(-3, -2, -1), keepdim=True) for bound in (torch.amin, torch.amax))
    return (image - low) / (high - low).clamp(min=1e-8)


def square_size(image_size: tuple[int, int], side: int) -> tuple[int, int]:
    return side, side


LONGEST_SIDE = Preprocessing(prepare_longest_side, longest_side_size, normalize_colors)
"""SAM's."""
SQUARE = Preprocessing(prepare_square, square_size, normalize_range)
"""MedSAM's."""


def place_masks(mask_logits: Tensor, input_size: tuple[int, int], side: int, mask_size: int) -> Tensor:
    """(N, S, S) logits over an image -> (N, 1, mask_size, mask_size) over SAM's padded input, nothing in the padding."""
    height, width = (max(1, round(extent * mask_size / side)) for extent in input_size)
    masks = F.interpolate(mask_logits[:, None], (height, width), mode="bilinear", antialias=True)
    lowest = float(mask_logits.min()) if mask_logits.numel() else 0.0
    return F.pad(masks, (0, mask_size - width, 0, mask_size - height), value=min(lowest, 0.0))


def scale_coords(coords: np.ndarray, image_size: tuple[int, int], input_size: tuple[int, int]) -> np.ndarray:
    """(..., 2) x y in image pixels -> in input pixels."""
    factors = np.array([input_size[1] / image_size[1], input_size[0] / image_size[0]], dtype=np.float64)
    return (coords * factors).astype(np.float32)
